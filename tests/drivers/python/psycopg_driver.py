"""psycopg 3 in its default settings: no autocommit, statements prepared at their sixth execution."""

import asyncio
import datetime
import os

import psycopg
from psycopg import errors
from psycopg.types.json import Jsonb
from scenarios import fails_with, main, scenario

URL = os.environ["DATABASE_URL"]


async def connect():
    return await psycopg.AsyncConnection.connect(URL)


async def disconnect(connection):
    await connection.close()


async def value(connection, query, parameters=None):
    cursor = await connection.execute(query, parameters)
    return (await cursor.fetchone())[0]


@scenario
async def simple_statements(connection, task):
    assert await value(connection, "SELECT 'plain'") == "plain"
    await connection.execute("SELECT 1; SELECT 2")
    await connection.commit()
    await connection.set_autocommit(True)
    assert await value(connection, "SELECT count(*) FROM numbers") == 1000
    assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


@scenario
async def parameters(connection, task):
    given = (task, "täxt 'quoted'", None, [1, 2, 3], Jsonb({"a": [1]}), datetime.date(2026, 2, 28), b"\x00\xff", 1.5, True)
    cursor = await connection.execute("SELECT %s::int, %s::text, %s::text, %s::int[], %s, %s, %s, %s::float8, %s", given)
    row = await cursor.fetchone()
    assert row[:4] == given[:4] and row[4] == {"a": [1]} and row[5:] == given[5:], row
    cursor = connection.cursor(binary=True)
    await cursor.execute("SELECT %s::int8, now()", (2**40 + task,))
    assert (await cursor.fetchone())[0] == 2**40 + task


@scenario
async def prepared_statements(connection, task):
    for turn in range(30):
        assert await value(connection, "SELECT n * %s FROM numbers WHERE n = %s", (task, turn + 1)) == (turn + 1) * task
        await connection.commit()


@scenario
async def more_prepared_statements_than_the_driver_keeps(connection, task):
    for turn in range(2):
        for number in range(110):
            query = f"SELECT {number} + %s"
            assert await value(connection, query, (task,)) == number + task
            cursor = await connection.execute(query, (1,), prepare=True)
            assert await cursor.fetchone() == (number + 1,)
        await connection.commit()


@scenario
async def transactions(connection, task):
    await connection.execute("INSERT INTO written (task, note) VALUES (%s, 'kept')", (task,))
    assert await value(connection, "SELECT count(*) FROM written WHERE task = %s AND note = 'kept'", (task,)) == 1
    await connection.commit()
    await connection.execute("INSERT INTO written (task, note) VALUES (%s, 'lost')", (task,))
    await connection.rollback()
    async with connection.transaction():
        await connection.execute("UPDATE written SET note = 'changed' WHERE task = %s", (task,))
        try:
            async with connection.transaction():
                await connection.execute("DELETE FROM written WHERE task = %s", (task,))
                raise psycopg.Rollback()
        except psycopg.Rollback:
            pass
    cursor = await connection.execute("SELECT note FROM written WHERE task = %s", (task,))
    assert await cursor.fetchall() == [("changed",)]
    await connection.execute("DELETE FROM written WHERE task = %s", (task,))
    await connection.commit()


@scenario
async def read_only_and_isolation(connection, task):
    await connection.set_read_only(True)
    assert await value(connection, "SELECT sum(n) FROM numbers") == 500500
    await fails_with(errors.ReadOnlySqlTransaction, connection.execute("INSERT INTO written (task) VALUES (0)"))
    await connection.rollback()
    await connection.set_read_only(False)
    await connection.set_isolation_level(psycopg.IsolationLevel.SERIALIZABLE)
    assert await value(connection, "SHOW transaction_isolation") == "serializable"
    await connection.rollback()


@scenario
async def pipelines(connection, task):
    async with connection.pipeline() as pipeline:
        cursors = [await connection.execute("SELECT %s::int + n FROM numbers WHERE n = %s", (task, n)) for n in range(1, 51)]
        await pipeline.sync()
        for n, cursor in enumerate(cursors, 1):
            assert await cursor.fetchone() == (task + n,)
    await connection.commit()
    error = await fails_with(psycopg.Error, broken_pipeline(connection))
    assert isinstance(error, errors.DivisionByZero), repr(error)
    await connection.rollback()
    assert await value(connection, "SELECT 7") == 7


async def broken_pipeline(connection):
    async with connection.pipeline():
        await connection.execute("SELECT 1")
        await connection.execute("SELECT 1 / %s::int", (0,))
        await connection.execute("SELECT 2")


@scenario
async def many_rows_in(connection, task):
    cursor = connection.cursor()
    rows = [(task, f"row {number}") for number in range(500)]
    await cursor.executemany("INSERT INTO written (task, note) VALUES (%s, %s)", rows)
    await cursor.executemany("UPDATE written SET note = %s WHERE id = %s RETURNING id", [("x", -1)] * 3, returning=True)
    assert await value(connection, "SELECT count(*) FROM written WHERE task = %s", (task,)) == 500
    await connection.rollback()


@scenario
async def copy_in_and_out(connection, task):
    cursor = connection.cursor()
    async with cursor.copy("COPY written (task, note) FROM STDIN") as copy:
        for number in range(5000):
            await copy.write_row((task, f"tab\t and line\n {number}"))
    assert cursor.rowcount == 5000
    async with cursor.copy("COPY (SELECT task, note FROM written WHERE task = %s ORDER BY id) TO STDOUT", (task,)) as copy:
        rows = [row async for row in copy.rows()]
    assert len(rows) == 5000 and rows[17][1] == "tab\t and line\n 17"
    await connection.rollback()
    error = await fails_with(psycopg.Error, broken_copy(connection))
    assert isinstance(error, errors.InvalidTextRepresentation), repr(error)
    await connection.rollback()
    assert await value(connection, "SELECT 8") == 8


async def broken_copy(connection):
    async with connection.cursor().copy("COPY written (task) FROM STDIN") as copy:
        await copy.write("1\nnot a number\n")


@scenario
async def large_results(connection, task):
    cursor = await connection.execute("SELECT n, repeat('x', 200) FROM generate_series(1, 30000) AS n")
    rows = await cursor.fetchall()
    assert len(rows) == 30000 and rows[-1] == (30000, "x" * 200)
    assert len(await value(connection, "SELECT repeat('y', 4000000)")) == 4_000_000
    assert await value(connection, "SELECT length(%s)", ("z" * 3_000_000,)) == 3_000_000


@scenario
async def cursors(connection, task):
    async with connection.cursor(name="numbers_cursor") as cursor:
        cursor.itersize = 100
        await cursor.execute("SELECT n FROM numbers ORDER BY n")
        assert [row[0] async for row in cursor] == list(range(1, 1001))
    total = 0
    async for row in connection.cursor().stream("SELECT n FROM numbers WHERE n <= %s", (100,)):
        total += row[0]
    assert total == 5050


@scenario
async def errors_and_recovery(connection, task):
    for _ in range(3):
        await fails_with(errors.UndefinedTable, connection.execute("SELECT * FROM no_such_table WHERE a = %s", (1,)))
        await fails_with(errors.InFailedSqlTransaction, connection.execute("SELECT 1"))
        await connection.rollback()
        await fails_with(errors.SyntaxError, connection.execute("SELEC 1"))
        await connection.rollback()
        assert await value(connection, "SELECT %s::int", (task,)) == task
        await connection.commit()


@scenario
async def cancel_and_timeouts(connection, task):
    sleeping = asyncio.create_task(connection.execute("SELECT pg_sleep(60)"))
    while not sleeping.done():
        await asyncio.sleep(0.3)
        await connection.cancel_safe(timeout=10)
    await fails_with(errors.QueryCanceled, sleeping)
    await connection.rollback()
    await connection.execute("SET LOCAL statement_timeout = '100ms'")
    await fails_with(errors.QueryCanceled, connection.execute("SELECT pg_sleep(60)"))
    await connection.rollback()
    assert await value(connection, "SELECT 9") == 9


@scenario
async def session_settings_and_reset(connection, task):
    await connection.set_autocommit(True)
    await connection.execute(f"SET application_name = 'task {task}'")
    await connection.execute("SELECT set_config('work_mem', '7MB', false)")
    for _ in range(10):
        assert await value(connection, "SELECT current_setting('application_name')") == f"task {task}"
        assert await value(connection, "SHOW work_mem") == "7MB"
    assert await value(connection, "SELECT %s::int", (1,)) == 1
    await connection.execute("DISCARD ALL")
    assert await value(connection, "SHOW work_mem") != "7MB"


@scenario
async def notifications(connection, task):
    await connection.set_autocommit(True)
    speaker = await connect()
    await speaker.set_autocommit(True)
    await connection.execute(f"LISTEN own_{task}")
    await connection.execute("LISTEN everybody")
    assert await value(connection, "SELECT array_agg(c) FROM pg_listening_channels() AS c") == [f"own_{task}", "everybody"]
    await speaker.execute(f"NOTIFY own_{task}, 'first'")
    await speaker.execute("SELECT pg_notify(%s, %s)", (f"own_{task}", "second"))
    heard = []
    async for notify in connection.notifies(timeout=20):
        if notify.channel == f"own_{task}":
            heard.append((notify.payload, notify.pid == speaker.info.backend_pid))
            if len(heard) == 2:
                break
    assert heard == [("first", True), ("second", True)], heard
    # One's own, told by one's own process id.
    await connection.execute(f"NOTIFY own_{task}, 'own'")
    async for notify in connection.notifies(timeout=20):
        if notify.channel == f"own_{task}":
            assert (notify.payload, notify.pid) == ("own", connection.info.backend_pid), notify
            break
    else:
        raise AssertionError("no notification of one's own")
    await connection.execute("UNLISTEN *")
    await speaker.close()


main(connect, disconnect)
