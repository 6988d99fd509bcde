//! psql: its meta-commands, `\copy`, cursors, cancelling by Ctrl-C.

use std::fmt::Write as _;
use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use trunkline::app::demo::PgBinaries;

use super::Fixture;
use super::support::clusters::{APP, APP_PASSWORD, scratch};
use super::support::sql::psql;

/// Runs the same by several threads at once.
fn at_once(run: impl Fn(usize) + Sync) {
    thread::scope(|scope| {
        for task in 0..8 {
            let run = &run;
            scope.spawn(move || run(task));
        }
    });
}

#[test]
fn psql_describes_tables_and_copies_files() {
    let fixture = Fixture::new();
    let dir = scratch("psql-copy");
    at_once(|task| {
        let (from, to) = (dir.join(format!("in{task}")), dir.join(format!("out{task}")));
        let lines: String = (0..3000).fold(String::new(), |mut text, n| {
            let _ = writeln!(text, "{task}\tnote {n}");
            text
        });
        fs::write(&from, &lines).unwrap();
        let script = format!(
            "\\t off
             \\d numbers
             \\t on
             \\dt
             \\df
             \\copy written (task, note) from '{}'
             \\copy (select task, note from written where task = {task} order by id) to '{}'
             delete from written where task = {task};
             \\set FETCH_COUNT 100
             select n from numbers order by n;
             \\unset FETCH_COUNT
             select format('select %s * 2', n) from numbers where n <= 3 order by n \\gexec
             \\conninfo
             ",
            from.display(),
            to.display()
        );
        let output = psql(fixture.port(), &fixture.db, &script);
        assert_eq!(output.code, 0, "{output:?}");
        assert_eq!(output.stderr, "");
        for part in ["\"numbers_pkey\" PRIMARY KEY", "COPY 3000\nCOPY 3000\nDELETE 3000\n1\n2\n3", "\n1000\n2\n4\n6\n"]
        {
            assert!(output.stdout.contains(part), "{part} in {}", output.stdout);
        }
        assert_eq!(fs::read_to_string(&to).unwrap(), lines);
    });
    fixture.assert_pool_kept();
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn psql_transactions_and_errors() {
    let fixture = Fixture::new();
    at_once(|task| {
        let script = format!(
            "\\set ON_ERROR_STOP off
             \\set ON_ERROR_ROLLBACK on
             begin;
             insert into written (task, note) values ({task}, 'kept');
             select nonsense;
             commit;
             \\set ON_ERROR_ROLLBACK off
             begin;
             delete from written where task = {task};
             select nonsense;
             commit;
             select note from written where task = {task};
             prepare p(int) as select n + $1 from numbers where n = 1;
             execute p({task});
             deallocate p;
             select 1 \\; select 2;
             "
        );
        let output = psql(fixture.port(), &fixture.db, &script);
        assert_eq!(output.code, 0, "{output:?}");
        assert_eq!(output.stderr.matches("column \"nonsense\" does not exist").count(), 2, "{output:?}");
        let expected = format!(
            "BEGIN\nINSERT 0 1\nCOMMIT\nBEGIN\nDELETE 1\nROLLBACK\nkept\nPREPARE\n{}\nDEALLOCATE\n1\n2\n",
            task + 1
        );
        assert_eq!(output.stdout, expected);
    });
}

#[test]
fn psql_cancels_its_query_and_only_that() {
    let fixture = Fixture::new();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| cancelled_by_ctrl_c(&fixture));
        }
        // A bystander on the same few server connections: no cancel may reach it.
        let script = "SELECT pg_sleep(0.05);\n".repeat(60);
        let output = psql(fixture.port(), &fixture.db, &script);
        assert_eq!((output.code, output.stderr.as_str()), (0, ""));
    });
}

/// Starts psql with a long query and presses Ctrl-C until it has ended.
fn cancelled_by_ctrl_c(fixture: &Fixture) {
    let pg = PgBinaries::find().unwrap();
    let mut child = Command::new(pg.path("psql"))
        .args(["-X", "-h", "127.0.0.1", "-p", &fixture.port().to_string(), "-U", APP, "-d", &fixture.db.name])
        .args(["-c", "SELECT pg_sleep(60)"])
        .env("PGPASSWORD", APP_PASSWORD)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    // While it connects psql would take the signal as its own end.
    thread::sleep(Duration::from_millis(1500));
    for _ in 0..40 {
        if child.try_wait().unwrap().is_some() {
            break;
        }
        let _ = kill_process(pid, Signal::INT);
        thread::sleep(Duration::from_millis(500));
    }
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("canceling statement due to user request"), "{errors}");
    assert_eq!(output.status.code(), Some(1), "{errors}");
}
