//! The `trunkline` program: everything is in the library.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use trunkline::app::cli::{self, Command, RunArgs};
use trunkline::app::{check, demo, import, route, run};
use trunkline::config::{Environment, load};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let env = Environment::from_process();
    match cli::parse() {
        Command::Run(args) => serve(&args, env),
        Command::Check(args) => check::run(&args, &env),
        Command::Import(args) => import::run(&args, &env),
        Command::Route(args) => route::run(&args),
        Command::Demo(args) => finish(demo::run(&args, |file| serve_file(file, env))),
    }
}

fn serve(args: &RunArgs, env: Environment) -> ExitCode {
    let color = std::io::stderr().is_terminal() && env.get("NO_COLOR").is_none();
    match args.load(&env) {
        Ok(loaded) => {
            let file: Option<PathBuf> = args.file(&env);
            finish(run::run(loaded, file, env))
        }
        Err(errors) => {
            let _ = writeln!(std::io::stderr(), "{}", errors.render(color));
            ExitCode::FAILURE
        }
    }
}

fn serve_file(file: &Path, env: Environment) -> Result<(), Box<dyn std::error::Error>> {
    let loaded = load(file, &env).map_err(|errors| errors.render(false))?;
    Ok(run::run(loaded, Some(file.to_owned()), env)?)
}

fn finish<E: std::fmt::Display>(result: Result<(), E>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "trunkline: {error}");
            ExitCode::FAILURE
        }
    }
}
