// node-postgres in its default settings: parameters by unnamed statements, named ones only when asked for.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createRequire } from "node:module";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";

// The packages are installed below target/, not beside this file.
const require = createRequire(process.env.DRIVER_MODULES + "/");
const pg = require("pg");
const Cursor = require("pg-cursor");
const { from: copyFrom, to: copyTo } = require("pg-copy-streams");

const TASKS = 8;
const PATIENCE = 60_000;
const connectionString = process.env.DATABASE_URL;

async function value(client, text, values) {
  const result = await client.query({ text, values, rowMode: "array" });
  return result.rows[0][0];
}

const scenarios = {
  async simple_statements(client) {
    assert.equal(await value(client, "SELECT 'plain'"), "plain");
    const results = await client.query("SELECT 1 AS a; SELECT 2 AS b");
    assert.deepEqual(results.map((result) => result.rows), [[{ a: 1 }], [{ b: 2 }]]);
    assert.equal(await value(client, "SELECT count(*) FROM numbers"), "1000");
    assert.equal((await client.query("")).rowCount ?? null, null);
  },

  async parameters(client, task) {
    const given = [task, "täxt 'quoted'", null, [1, 2, 3], { a: [1] }, Buffer.from([0, 255]), 1.5, true];
    const text = "SELECT $1::int, $2::text, $3::text, $4::int[], $5::jsonb, $6::bytea, $7::float8, $8::bool";
    const { rows } = await client.query({ text, values: given, rowMode: "array" });
    assert.deepEqual(rows[0], given);
  },

  async prepared_statements(client, task) {
    for (let turn = 1; turn <= 30; turn++) {
      const query = { name: "times", text: "SELECT n * $1::int AS product FROM numbers WHERE n = $2", values: [task, turn] };
      assert.equal((await client.query(query)).rows[0].product, task * turn);
      const other = { name: `plus-${turn % 5}`, text: `SELECT ${turn % 5} + $1::int AS sum`, values: [task] };
      assert.equal((await client.query(other)).rows[0].sum, (turn % 5) + task);
    }
  },

  async queries_sent_without_waiting(client, task) {
    const queries = Array.from({ length: 50 }, (_, n) => value(client, "SELECT $1::int + $2::int", [task, n]));
    assert.deepEqual(await Promise.all(queries), Array.from({ length: 50 }, (_, n) => task + n));
  },

  async transactions(client, task) {
    await client.query("BEGIN");
    await client.query("INSERT INTO written (task, note) VALUES ($1, 'kept')", [task]);
    await client.query("SAVEPOINT a");
    await client.query("DELETE FROM written WHERE task = $1", [task]);
    await client.query("ROLLBACK TO SAVEPOINT a");
    await client.query("COMMIT");
    await client.query("BEGIN");
    await client.query("INSERT INTO written (task, note) VALUES ($1, 'lost')", [task]);
    await client.query("ROLLBACK");
    const { rows } = await client.query("SELECT note FROM written WHERE task = $1", [task]);
    assert.deepEqual(rows, [{ note: "kept" }]);
    assert.equal((await client.query("DELETE FROM written WHERE task = $1", [task])).rowCount, 1);
  },

  async copy_in_and_out(client, task) {
    const lines = Array.from({ length: 5000 }, (_, n) => `${task}\trow ${n}\n`);
    const into = client.query(copyFrom("COPY written (task, note) FROM STDIN"));
    await pipeline(Readable.from(lines), into);
    assert.equal(into.rowCount, 5000);
    const out = client.query(copyTo(`COPY (SELECT note FROM written WHERE task = ${task} ORDER BY id) TO STDOUT`));
    const chunks = await out.toArray();
    assert.equal(Buffer.concat(chunks).toString().split("\n").length, 5001);
    const broken = client.query(copyFrom("COPY written (task) FROM STDIN"));
    await assert.rejects(pipeline(Readable.from(["1\n", "not a number\n"]), broken), { code: "22P02" });
    assert.equal((await client.query("DELETE FROM written WHERE task = $1", [task])).rowCount, 5000);
  },

  async large_results(client) {
    const { rows } = await client.query("SELECT n, repeat('x', 200) AS x FROM generate_series(1, 30000) AS n");
    assert.equal(rows.length, 30000);
    assert.deepEqual(rows.at(-1), { n: 30000, x: "x".repeat(200) });
    assert.equal((await value(client, "SELECT repeat('y', 4000000)")).length, 4_000_000);
    assert.equal(await value(client, "SELECT length($1::text)", ["z".repeat(3_000_000)]), 3_000_000);
  },

  async cursors(client) {
    await client.query("BEGIN");
    const cursor = client.query(new Cursor("SELECT n FROM numbers WHERE n > $1 ORDER BY n", [0]));
    let seen = 0;
    for (;;) {
      const rows = await cursor.read(70);
      if (rows.length === 0) break;
      seen += rows.length;
    }
    assert.equal(seen, 1000);
    await cursor.close();
    const abandoned = client.query(new Cursor("SELECT n FROM numbers ORDER BY n"));
    assert.equal((await abandoned.read(10)).length, 10);
    await abandoned.close();
    await client.query("COMMIT");
  },

  async errors_and_recovery(client, task) {
    for (let turn = 0; turn < 3; turn++) {
      await assert.rejects(client.query("SELECT * FROM no_such_table WHERE a = $1", [1]), { code: "42P01" });
      await assert.rejects(client.query("SELEC 1"), { code: "42601" });
      await assert.rejects(client.query({ name: "broken", text: "SELECT 1 / $1::int", values: [0] }), { code: "22012" });
      assert.equal(await value(client, "SELECT $1::int", [task]), task);
    }
  },

  async cancel_and_timeouts(client, task) {
    await client.query("BEGIN");
    await client.query("SET LOCAL statement_timeout = '100ms'");
    await assert.rejects(client.query("SELECT pg_sleep(60)"), { code: "57014" });
    await client.query("ROLLBACK");
    const sleeping = client.query("SELECT pg_sleep(60)");
    let done = false;
    const ended = assert.rejects(sleeping, { code: "57014" }).finally(() => (done = true));
    while (!done) {
      await new Promise((resolve) => setTimeout(resolve, 300));
      const canceller = new pg.Connection();
      canceller.connect(client.port, client.host);
      await once(canceller, "connect");
      canceller.cancel(client.processID, client.secretKey);
      await once(canceller, "end");
    }
    await ended;
    assert.equal(await value(client, "SELECT $1::int", [task]), task);
  },

  async settings_given_at_connect(_, task) {
    const client = new pg.Client({ connectionString, application_name: `task ${task}`, statement_timeout: 5000 });
    await client.connect();
    for (let turn = 0; turn < 5; turn++) {
      assert.equal(await value(client, "SHOW application_name"), `task ${task}`);
      assert.equal(await value(client, "SHOW statement_timeout"), "5s");
    }
    await client.end();
  },

  async notifications(client, task) {
    const heard = [];
    let wake = () => {};
    client.on("notification", ({ processId, channel, payload }) => {
      heard.push([processId, channel, payload]);
      wake();
    });
    const wanted = [];
    await client.query(`LISTEN own_${task}`);
    await client.query(`NOTIFY own_${task}, 'own'`);
    wanted.push([client.processID, `own_${task}`, "own"]);
    assert.deepEqual(heard, wanted);
    const speaker = new pg.Client({ connectionString });
    await speaker.connect();
    for (let turn = 0; turn < 20; turn++) {
      await speaker.query("SELECT pg_notify($1, $2)", [`own_${task}`, `${turn}`]);
      wanted.push([speaker.processID, `own_${task}`, `${turn}`]);
    }
    while (heard.length < wanted.length) await new Promise((resolve) => (wake = resolve));
    assert.deepEqual(heard, wanted);
    await client.query("UNLISTEN *");
    await speaker.end();
  },

  async a_pool_of_the_driver() {
    const pool = new pg.Pool({ connectionString });
    const sums = Array.from({ length: 40 }, async (_, n) => {
      const { rows } = await pool.query("SELECT $1::int * 2 AS twice", [n]);
      return rows[0].twice;
    });
    assert.deepEqual(await Promise.all(sums), Array.from({ length: 40 }, (_, n) => n * 2));
    await pool.end();
  },
};

async function oneTask(run, task) {
  const client = new pg.Client({ connectionString });
  await client.connect();
  try {
    await run(client, task);
  } finally {
    await client.end();
  }
}

const failed = [];
for (const [name, run] of Object.entries(scenarios)) {
  const started = Date.now();
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error("timed out")), PATIENCE);
  });
  const tasks = Array.from({ length: TASKS }, (_, task) => oneTask(run, task));
  const results = await Promise.race([Promise.allSettled(tasks), late]).catch((reason) => [{ reason }]);
  clearTimeout(timer);
  const errors = results.filter((result) => result.reason);
  console.log(`${errors.length ? "FAILED" : "ok"} ${name} (${(Date.now() - started) / 1000} s)`);
  for (const { reason } of errors.slice(0, 2)) console.log(reason);
  if (errors.length) failed.push(name);
}
if (failed.length) console.log(`${failed.length} scenarios failed: ${failed.join(", ")}`);
process.exit(failed.length ? 1 : 0);
