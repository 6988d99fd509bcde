"""psycopg 3 and asyncpg on the console, in their default settings: transactions, parameters, binary results, pools."""

import asyncio
import os

import asyncpg
import psycopg
from psycopg import errors
from scenarios import fails_with, main, scenario

URL = os.environ["CONSOLE_URL"]
DATABASE = os.environ["DATABASE_NAME"]


async def connect():
    return None


async def disconnect(connection):
    pass


@scenario
async def psycopg_reads_tables(_, task):
    async with await psycopg.AsyncConnection.connect(URL) as connection:
        cursor = await connection.execute("SHOW POOLS")
        names = [column.name for column in cursor.description]
        assert names[:3] == ["database", "user", "cl_active"], names
        rows = await cursor.fetchall()
        assert any(row[0] == "trunkline" and isinstance(row[2], int) for row in rows), rows
        cursor = await connection.execute("SELECT name, paused FROM databases WHERE name = %s AND port > %s", (DATABASE, 1))
        assert await cursor.fetchall() == [(DATABASE, 0)]
        # Prepared at the sixth execution.
        for _ in range(12):
            cursor = await connection.execute("SELECT count(*) FROM state WHERE key = %s", ("active",))
            assert await cursor.fetchone() == (1,)
        cursor = connection.cursor(binary=True)
        await cursor.execute("SELECT count(*), avg(items), max(list) FROM lists WHERE items >= %s", (0,))
        row = await cursor.fetchone()
        assert row[0] == 14 and isinstance(row[1], float) and row[2] == "users", row
        await cursor.execute("SHOW TOTALS")
        assert len(await cursor.fetchall()) == 24
        assert connection.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS
        await connection.rollback()


@scenario
async def psycopg_gives_commands(_, task):
    connection = await psycopg.AsyncConnection.connect(URL, autocommit=True)
    async with connection:
        cursor = await connection.execute("SET query_wait_timeout = 30")
        assert cursor.statusmessage == "SET query_wait_timeout=30", cursor.statusmessage
        await connection.execute(f"RECONNECT {DATABASE}")
        await connection.execute(f'ENABLE "{DATABASE}"')
        await fails_with(errors.FeatureNotSupported, connection.execute("SELECT 1"))
        await fails_with(errors.UndefinedTable, connection.execute("SELECT * FROM nowhere"))
        await fails_with(errors.UndefinedObject, connection.execute("KILL_CLIENT 999999"))
        assert (await (await connection.execute("SHOW STATE")).fetchone()) == ("active", "yes")


@scenario
async def asyncpg_reads_tables(_, task):
    connection = await asyncpg.connect(URL)
    try:
        rows = await connection.fetch("SHOW DATABASES")
        assert any(row["name"] == DATABASE and row["paused"] == 0 for row in rows), rows
        sql = "SELECT database, sum(cl_active) AS clients FROM pools WHERE database = $1 GROUP BY database"
        row = await connection.fetchrow(sql, "trunkline")
        assert row["database"] == "trunkline" and row["clients"] >= 1, row
        assert await connection.fetchval("SELECT count(*) FROM lists WHERE items >= $1 AND list LIKE $2", 0, "dns%") == 4
        statement = await connection.prepare("SELECT list FROM lists ORDER BY list LIMIT $1")
        assert [row[0] for row in await statement.fetch(2)] == ["databases", "dns_names"]
        totals = await connection.fetch("SHOW TOTALS")
        assert len(totals) == 24
        assert await connection.execute("SET query_wait_timeout = 30") == "SET query_wait_timeout=30"
        await fails_with(asyncpg.FeatureNotSupportedError, connection.fetch("SELECT 1"))
        async with connection.transaction():
            await connection.fetch("SHOW STATE")
    finally:
        await connection.close()


@scenario
async def asyncpg_in_a_pool(_, task):
    async with asyncpg.create_pool(URL, min_size=1, max_size=2) as pool:

        async def use(number):
            async with pool.acquire() as pooled:
                assert len(await pooled.fetch("SHOW STATE")) == 3

        await asyncio.gather(*(use(number) for number in range(6)))


main(connect, disconnect)
