//! The `trunkline` program: everything is in the library.

use std::process::ExitCode;

use trunkline::app::{check, cli};
use trunkline::config::Environment;

fn main() -> ExitCode {
    let env = Environment::from_process();
    match cli::parse() {
        cli::Command::Check(args) => check::run(&args, &env),
        _ => ExitCode::FAILURE,
    }
}
