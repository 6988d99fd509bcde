"""asyncpg in its default settings: every query by a prepared statement, 100 of which are kept."""

import asyncio
import datetime
import os

import asyncpg
from scenarios import fails_with, main, scenario

URL = os.environ["DATABASE_URL"]


async def connect():
    return await asyncpg.connect(URL)


async def disconnect(connection):
    await connection.close(timeout=5)


@scenario
async def simple_statements(connection, task):
    assert await connection.execute("SELECT 1; SELECT 2") == "SELECT 1"
    assert await connection.fetchval("SELECT 'plain'") == "plain"
    assert await connection.fetchval("SELECT count(*) FROM numbers") == 1000


@scenario
async def parameters(connection, task):
    given = (task, "täxt", None, [1, 2, 3], datetime.datetime(2026, 2, 28, tzinfo=datetime.UTC), b"\x00\xff", 1.5, True)
    row = await connection.fetchrow(
        "SELECT $1::int, $2::text, $3::text, $4::int[], $5::timestamptz, $6::bytea, $7::float8, $8::bool", *given
    )
    assert tuple(row) == given, row


@scenario
async def types_of_the_database(connection, task):
    # An enum and a composite type make asyncpg look them up with a recursive query.
    assert await connection.fetchval("SELECT 'happy'::mood") == "happy"
    assert await connection.fetchval("SELECT ARRAY['sad', 'happy']::mood[]") == ["sad", "happy"]
    assert tuple(await connection.fetchval("SELECT ROW(1, 'sad')::feeling")) == (1, "sad")


@scenario
async def prepared_statements(connection, task):
    statement = await connection.prepare("SELECT n * $1::int FROM numbers WHERE n = $2")
    assert [attribute.type.name for attribute in statement.get_attributes()] == ["int4"]
    for turn in range(1, 31):
        assert await statement.fetchval(task, turn) == task * turn
        assert await connection.fetchval("SELECT $1::int + 1", turn) == turn + 1


@scenario
async def more_prepared_statements_than_the_driver_keeps(connection, task):
    for _ in range(2):
        for number in range(130):
            assert await connection.fetchval(f"SELECT {number} + $1::int", task) == number + task


@scenario
async def transactions(connection, task):
    async with connection.transaction():
        await connection.execute("INSERT INTO written (task, note) VALUES ($1, 'kept')", task)
        nested = connection.transaction()
        await nested.start()
        await connection.execute("DELETE FROM written WHERE task = $1", task)
        await nested.rollback()
        assert await connection.fetchval("SELECT count(*) FROM written WHERE task = $1", task) == 1
    await fails_with(ZeroDivisionError, rolled_back(connection, task))
    assert await connection.fetchval("SELECT count(*) FROM written WHERE task = $1", task) == 1
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        assert await connection.fetchval("SELECT sum(n) FROM numbers") == 500500
        assert await connection.fetchval("SHOW transaction_read_only") == "on"
    assert await connection.execute("DELETE FROM written WHERE task = $1", task) == "DELETE 1"


async def rolled_back(connection, task):
    async with connection.transaction():
        await connection.execute("INSERT INTO written (task, note) VALUES ($1, 'lost')", task)
        raise ZeroDivisionError


@scenario
async def many_rows_in(connection, task):
    rows = [(task, f"row {number}") for number in range(2000)]
    await connection.executemany("INSERT INTO written (task, note) VALUES ($1, $2)", rows)
    assert await connection.fetchval("SELECT count(*) FROM written WHERE task = $1", task) == 2000
    await fails_with(
        asyncpg.UniqueViolationError,
        connection.executemany("INSERT INTO numbers (n) VALUES ($1)", [(2_000_000 + task,), (1,)]),
    )
    assert await connection.execute("DELETE FROM written WHERE task = $1", task) == "DELETE 2000"


@scenario
async def copy_in_and_out(connection, task):
    records = [(task, f"row {number}") for number in range(5000)]
    done = await connection.copy_records_to_table("written", records=records, columns=["task", "note"])
    assert done == "COPY 5000"
    received = bytearray()

    async def receive(data):
        received.extend(data)

    done = await connection.copy_from_query("SELECT note FROM written WHERE task = $1 ORDER BY id", task, output=receive)
    assert done == "COPY 5000" and received.startswith(b"row 0\nrow 1\n")

    async def broken():
        yield b"1\n"
        yield b"not a number\n"

    await fails_with(
        asyncpg.InvalidTextRepresentationError,
        connection.copy_to_table("written", source=broken(), columns=["task"]),
    )
    assert await connection.execute("DELETE FROM written WHERE task = $1", task) == "DELETE 5000"


@scenario
async def large_results(connection, task):
    rows = await connection.fetch("SELECT n, repeat('x', 200) FROM generate_series(1, 30000) AS n")
    assert len(rows) == 30000 and tuple(rows[-1]) == (30000, "x" * 200)
    assert len(await connection.fetchval("SELECT repeat('y', 4000000)")) == 4_000_000
    assert await connection.fetchval("SELECT length($1::text)", "z" * 3_000_000) == 3_000_000


@scenario
async def cursors(connection, task):
    async with connection.transaction():
        seen = [row[0] async for row in connection.cursor("SELECT n FROM numbers ORDER BY n", prefetch=70)]
        assert seen == list(range(1, 1001))
        cursor = await connection.cursor("SELECT n FROM numbers WHERE n > $1 ORDER BY n", 500)
        assert len(await cursor.fetch(10)) == 10
        assert await cursor.forward(5) == 5
        assert (await cursor.fetchrow())[0] == 516


@scenario
async def errors_and_recovery(connection, task):
    for _ in range(3):
        await fails_with(asyncpg.UndefinedTableError, connection.fetch("SELECT * FROM no_such_table WHERE a = $1", 1))
        await fails_with(asyncpg.PostgresSyntaxError, connection.fetch("SELEC 1"))
        await fails_with(asyncpg.DivisionByZeroError, connection.fetch("SELECT 1 / $1::int", 0))
        assert await connection.fetchval("SELECT $1::int", task) == task


@scenario
async def cancel_and_timeouts(connection, task):
    for _ in range(2):
        await fails_with(TimeoutError, connection.fetchval("SELECT pg_sleep(10)", timeout=0.2))
        assert await connection.fetchval("SELECT 9") == 9
    sleeping = asyncio.create_task(connection.fetchval("SELECT pg_sleep(10)"))
    await asyncio.sleep(0.2)
    sleeping.cancel()
    await fails_with(asyncio.CancelledError, sleeping)
    assert await connection.fetchval("SELECT $1::int", task) == task


@scenario
async def a_changed_table_under_a_prepared_statement(connection, task):
    await connection.execute(f"CREATE TABLE changing_{task} (a int); INSERT INTO changing_{task} VALUES (1)")
    assert tuple(await connection.fetchrow(f"SELECT * FROM changing_{task}")) == (1,)
    await connection.execute(f"ALTER TABLE changing_{task} ADD COLUMN b int DEFAULT 2")
    assert tuple(await connection.fetchrow(f"SELECT * FROM changing_{task}")) == (1, 2)
    await connection.execute(f"DROP TABLE changing_{task}")


@scenario
async def a_pool_that_resets_its_connections(connection, task):
    async with asyncpg.create_pool(URL, min_size=2, max_size=3) as pool:

        async def use(number):
            async with pool.acquire() as pooled:
                await pooled.execute("SET work_mem = '7MB'")
                assert await pooled.fetchval("SHOW work_mem") == "7MB"
                assert await pooled.fetchval("SELECT $1::int", number) == number

        await asyncio.gather(*(use(number) for number in range(12)))
        async with pool.acquire() as pooled:
            assert await pooled.fetchval("SHOW work_mem") != "7MB"


@scenario
async def listeners(connection, task):
    heard = asyncio.Queue()

    def listener(_, pid, channel, payload):
        heard.put_nowait((pid, channel, payload))

    async def next_one():
        return await asyncio.wait_for(heard.get(), 20)

    channel = f"Own {task}"
    await connection.add_listener(channel, listener)
    for turn in range(5):
        async with connection.transaction():
            await connection.execute("SELECT pg_notify($1, $2)", channel, f"{turn}")
            assert heard.empty()
        assert await next_one() == (connection.get_server_pid(), channel, f"{turn}")
    other = await connect()
    await other.execute(f"NOTIFY \"{channel}\", 'by another'")
    assert await next_one() == (other.get_server_pid(), channel, "by another")
    await connection.remove_listener(channel, listener)
    await other.execute(f"NOTIFY \"{channel}\", 'unheard'")
    assert await connection.fetchval("SELECT 1") == 1 and heard.empty()
    await disconnect(other)


main(connect, disconnect)
