//! `trunkline route '<sql>'`: where a statement would go, and why, without any server.

use std::io::{self, Read, Write};
use std::process::ExitCode;

use crate::route::explain_offline;

use super::cli::RouteArgs;

/// Explains the statement on stdout.
pub fn run(args: &RouteArgs) -> ExitCode {
    let mut sql = args.sql.clone();
    if sql == "-" {
        sql.clear();
        if let Err(error) = io::stdin().lock().read_to_string(&mut sql) {
            let _ = writeln!(io::stderr(), "cannot read the statement from standard input: {error}");
            return ExitCode::FAILURE;
        }
    }
    match writeln!(io::stdout().lock(), "{}", explain_offline(&sql)) {
        // A reader that went away (`| head`) is nobody's mistake.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    }
}
