//! tokio-postgres in its default settings.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures::future::{join_all, try_join_all};
use futures::{SinkExt, StreamExt, TryStreamExt};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use super::Fixture;
use super::support::sql::{block_on, connect};

/// Runs the scenario by eight tasks at once, each with a client of its own.
fn each<S: AsyncFn(Client, i32)>(scenario: S) {
    let fixture = Fixture::new();
    block_on(async {
        let tasks = (0..8).map(|task| {
            let (scenario, fixture) = (&scenario, &fixture);
            async move { scenario(connect(fixture.port(), &fixture.db).await, task).await }
        });
        join_all(tasks).await;
    });
    fixture.assert_pool_kept();
}

#[test]
fn statements_with_and_without_parameters() {
    each(async |client, task| {
        for turn in 1..=20 {
            let row = client.query_one("SELECT n * $1 FROM numbers WHERE n = $2", &[&task, &turn]).await.unwrap();
            assert_eq!(row.get::<_, i32>(0), task * turn);
        }
        let statement = client.prepare("SELECT $1::text, $2::int[]").await.unwrap();
        for turn in 0..20 {
            let row = client.query_one(&statement, &[&"täxt", &vec![turn, task]]).await.unwrap();
            assert_eq!((row.get::<_, String>(0), row.get::<_, Vec<i32>>(1)), ("täxt".to_owned(), vec![turn, task]));
        }
        drop(statement);
        let messages = client.simple_query("SELECT 1; SELECT 2").await.unwrap();
        let rows = messages.iter().filter(|message| matches!(message, SimpleQueryMessage::Row(_)));
        assert_eq!(rows.count(), 2);
        client.batch_execute("SELECT 1; SELECT 2").await.unwrap();
        assert!(client.query_opt("SELECT 1 WHERE false", &[]).await.unwrap().is_none());
        let mood = client.query_one("SELECT ARRAY['sad']::mood[]::text", &[]).await.unwrap();
        assert_eq!(mood.get::<_, String>(0), "{sad}");
    });
}

#[test]
fn pipelined_queries() {
    each(async |client, task| {
        let statement = client.prepare("SELECT $1::int4 + $2::int4").await.unwrap();
        let rows = try_join_all((0..200).map(|n| {
            let (client, statement) = (&client, &statement);
            async move { client.query_one(statement, &[&task, &n]).await }
        }));
        let sums: Vec<i32> = rows.await.unwrap().iter().map(|row| row.get(0)).collect();
        assert_eq!(sums, (0..200).map(|n| task + n).collect::<Vec<_>>());
        let divide = client.prepare("SELECT 10 / $1::int4").await.unwrap();
        let divided = join_all((0..20).map(|n| {
            let (client, divide) = (&client, &divide);
            async move { client.query_one(divide, &[&(n % 3)]).await }
        }));
        for (n, result) in divided.await.into_iter().enumerate() {
            match result {
                Ok(row) => assert_eq!(row.get::<_, i32>(0), 10 / i32::try_from(n % 3).unwrap()),
                Err(error) => assert!(n % 3 == 0 && error.code() == Some(&SqlState::DIVISION_BY_ZERO), "{n}: {error}"),
            }
        }
    });
}

#[test]
fn transactions_and_portals() {
    each(async |mut client, task| {
        let mut transaction = client.transaction().await.unwrap();
        transaction.execute("INSERT INTO written (task, note) VALUES ($1, 'kept')", &[&task]).await.unwrap();
        let nested = transaction.savepoint("a").await.unwrap();
        nested.execute("DELETE FROM written WHERE task = $1", &[&task]).await.unwrap();
        nested.rollback().await.unwrap();
        let portal = transaction.bind("SELECT n FROM numbers ORDER BY n", &[]).await.unwrap();
        for part in 0..3 {
            let rows = transaction.query_portal(&portal, 100).await.unwrap();
            assert_eq!(rows[0].get::<_, i32>(0), part * 100 + 1);
        }
        transaction.commit().await.unwrap();
        // Dropped without a commit: rolled back, though nobody waits for it.
        let abandoned = client.transaction().await.unwrap();
        abandoned.execute("DELETE FROM written WHERE task = $1", &[&task]).await.unwrap();
        drop(abandoned);
        assert_eq!(client.execute("DELETE FROM written WHERE task = $1", &[&task]).await.unwrap(), 1);
        let reading = client.build_transaction().read_only(true).deferrable(true).start().await.unwrap();
        let row = reading.query_one("SELECT sum(n) FROM numbers", &[]).await.unwrap();
        assert_eq!(row.get::<_, i64>(0), 500_500);
        let error = reading.execute("DELETE FROM written", &[]).await.unwrap_err();
        assert_eq!(error.code(), Some(&SqlState::READ_ONLY_SQL_TRANSACTION));
    });
}

#[test]
fn copy_in_and_out() {
    each(async |client, task| {
        let mut sink = pin!(client.copy_in("COPY written (task, note) FROM STDIN").await.unwrap());
        for n in 0..3000 {
            sink.send(Bytes::from(format!("{task}\tnote {n}\n"))).await.unwrap();
        }
        assert_eq!(sink.as_mut().finish().await.unwrap(), 3000);
        let out = format!("COPY (SELECT note FROM written WHERE task = {task} ORDER BY id) TO STDOUT");
        let chunks: Vec<_> = client.copy_out(&out).await.unwrap().try_collect().await.unwrap();
        assert_eq!(chunks.concat().split(|byte| *byte == b'\n').count(), 3001);
        let mut broken = pin!(client.copy_in("COPY written (task) FROM STDIN").await.unwrap());
        broken.send(Bytes::from_static(b"1\nnot a number\n")).await.unwrap();
        let error = broken.as_mut().finish().await.unwrap_err();
        assert_eq!(error.code(), Some(&SqlState::INVALID_TEXT_REPRESENTATION));
        // Dropped half-way: the driver sends CopyFail.
        let mut abandoned = Box::pin(client.copy_in("COPY written (task) FROM STDIN").await.unwrap());
        abandoned.send(Bytes::from_static(b"1\n")).await.unwrap();
        drop::<std::pin::Pin<Box<tokio_postgres::CopyInSink<Bytes>>>>(abandoned);
        assert_eq!(client.execute("DELETE FROM written WHERE task = $1", &[&task]).await.unwrap(), 3000);
    });
}

#[test]
fn large_results_read_slowly_or_not_at_all() {
    each(async |client, task| {
        let query = "SELECT n, repeat('x', 200) FROM generate_series(1, $1::int4) AS n";
        let rows = client.query(query, &[&30_000]).await.unwrap();
        assert_eq!(rows.len(), 30_000);
        let no_parameters: [i32; 1] = [30_000];
        {
            // Dropped in the middle: the driver reads the rest away while it sends what comes next.
            let mut stream = pin!(client.query_raw(query, no_parameters).await.unwrap());
            let first = stream.next().await.unwrap().unwrap();
            assert_eq!(first.get::<_, i32>(0), 1);
        }
        let row = client.query_one("SELECT length($1), $2::int4", &[&"z".repeat(3_000_000), &task]).await.unwrap();
        assert_eq!((row.get::<_, i32>(0), row.get::<_, i32>(1)), (3_000_000, task));
    });
}

#[test]
fn a_result_given_up_does_not_hold_the_next_statement_up() {
    each(async |client, task| {
        let query = "SELECT n, repeat('x', 200) FROM generate_series(1, $1::int4) AS n";
        for _ in 0..3 {
            let parameters: [i32; 1] = [30_000];
            {
                let mut stream = pin!(client.query_raw(query, parameters).await.unwrap());
                stream.next().await.unwrap().unwrap();
            }
            assert_eq!(client.query_one("SELECT $1::int4", &[&task]).await.unwrap().get::<_, i32>(0), task);
        }
    });
}

#[test]
fn errors_and_cancelling() {
    each(async |client, task| {
        for _ in 0..3 {
            let error = client.query("SELECT * FROM no_such_table WHERE a = $1", &[&1]).await.unwrap_err();
            assert_eq!(error.code(), Some(&SqlState::UNDEFINED_TABLE));
            let error = client.batch_execute("SELEC 1").await.unwrap_err();
            assert_eq!(error.code(), Some(&SqlState::SYNTAX_ERROR));
            assert_eq!(client.query_one("SELECT $1::int4", &[&task]).await.unwrap().get::<_, i32>(0), task);
        }
        let token = client.cancel_token();
        let mut sleeping = pin!(client.batch_execute("SELECT pg_sleep(60)"));
        // Only three of the eight sleep at once; the others wait for a server connection, and a
        // cancel then ends the waiting.
        let error = loop {
            match tokio::time::timeout(Duration::from_millis(300), &mut sleeping).await {
                Ok(result) => break result.unwrap_err(),
                Err(_) => token.cancel_query(NoTls).await.unwrap(),
            }
        };
        assert_eq!(error.code(), Some(&SqlState::QUERY_CANCELED));
        assert_eq!(client.query_one("SELECT $1::int4", &[&task]).await.unwrap().get::<_, i32>(0), task);
    });
}
