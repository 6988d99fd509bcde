//! Drivers of other languages: each has a script of scenarios beside this file, which prints one line per
//! scenario and ends with status 1 when any failed.

use std::path::PathBuf;
use std::process::Command;

use super::Fixture;

/// Where `.ci/install-drivers` puts the drivers.
fn installed() -> PathBuf {
    // CARGO_TARGET_TMPDIR is target/tmp.
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("drivers")
}

/// Whether the interpreter is there; says so when it isn't.
fn is_there(interpreter: &str) -> bool {
    let there = Command::new(interpreter).arg("--version").output().is_ok();
    if !there {
        eprintln!("skipped: {interpreter} is not installed");
    }
    there
}

fn run(command: &mut Command, fixture: &Fixture) {
    // The script prints for itself: what it had to say is then seen even when it never ends.
    let console = fixture.url().replace(&format!("/{}", fixture.db.name), "/pgbouncer");
    let command = command.env("DATABASE_URL", fixture.url()).env("CONSOLE_URL", console);
    let status = command.env("DATABASE_NAME", &fixture.db.name).status().unwrap();
    assert!(status.success(), "{status}: see the FAILED lines");
    fixture.assert_pool_kept();
}

fn python(script: &str) {
    if !is_there("python3") {
        return;
    }
    let interpreter = installed().join("python/bin/python");
    assert!(interpreter.is_file(), "no drivers in {}: run .ci/install-drivers", installed().display());
    let fixture = Fixture::new();
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/drivers/python").join(script);
    run(Command::new(interpreter).arg("-B").arg(path), &fixture);
}

#[test]
fn psycopg() {
    python("psycopg_driver.py");
}

#[test]
fn asyncpg() {
    python("asyncpg_driver.py");
}

/// The console has no direct counterpart.
fn is_direct() -> bool {
    std::env::var_os("TEST_DIRECT").is_some()
}

#[test]
fn psycopg_and_asyncpg_on_the_console() {
    if !is_direct() {
        python("console_drivers.py");
    }
}

#[test]
fn node_postgres_on_the_console() {
    if !is_direct() {
        node("console_driver.mjs");
    }
}

#[test]
fn node_postgres() {
    node("node_postgres_driver.mjs");
}

fn node(script: &str) {
    if !is_there("node") {
        return;
    }
    let modules = installed().join("node");
    assert!(modules.join("node_modules").is_dir(), "no drivers in {}: run .ci/install-drivers", modules.display());
    let fixture = Fixture::new();
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/drivers/node").join(script);
    run(Command::new("node").arg(path).env("DRIVER_MODULES", modules), &fixture);
}
