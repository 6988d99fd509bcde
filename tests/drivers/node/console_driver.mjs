// node-postgres on the console, in its default settings and with a pool.

import assert from "node:assert/strict";
import { createRequire } from "node:module";

const require = createRequire(process.env.DRIVER_MODULES + "/");
const pg = require("pg");

const connectionString = process.env.CONSOLE_URL;
const database = process.env.DATABASE_NAME;

const scenarios = {
  async tables(client) {
    const { rows, fields } = await client.query("SHOW POOLS");
    assert.deepEqual(fields.slice(0, 3).map((field) => field.name), ["database", "user", "cl_active"]);
    assert.equal(typeof rows[0].cl_active, "number");
    const named = { name: "of", text: "SELECT name, paused FROM databases WHERE name = $1 AND port > $2", values: [database, 1] };
    for (let turn = 0; turn < 3; turn++) {
      assert.deepEqual((await client.query(named)).rows, [{ name: database, paused: 0 }]);
    }
    assert.equal((await client.query("SELECT count(*) FROM state")).rows[0].count, "3");
    const several = await client.query("SHOW STATE; SHOW VERSION");
    assert.deepEqual(several.map((result) => result.rows.length), [3, 1]);
  },

  async commands(client) {
    assert.equal((await client.query("SET query_wait_timeout = 30")).command, "SET");
    assert.equal((await client.query(`RECONNECT ${database}`)).command, "RECONNECT");
    const help = new Promise((resolve) => client.once("notice", resolve));
    await client.query("SHOW HELP");
    assert.equal((await help).message, "Console usage");
    for (const [text, code] of [["SELECT 1", "0A000"], ["SELECT * FROM nowhere", "42P01"], ["KILL_CLIENT 999999", "42704"]]) {
      await assert.rejects(client.query(text), { code });
    }
  },

  async a_pool() {
    const pool = new pg.Pool({ connectionString, max: 2 });
    const counts = await Promise.all(Array.from({ length: 6 }, () => pool.query("SELECT count(*) FROM state")));
    assert.ok(counts.every((result) => result.rows[0].count === "3"));
    await pool.end();
  },
};

let failed = 0;
const timer = setTimeout(() => {
  console.log("FAILED: timed out");
  process.exit(1);
}, 60_000);
for (const [name, run] of Object.entries(scenarios)) {
  const client = new pg.Client({ connectionString });
  await client.connect();
  try {
    await run(client);
    console.log(`ok ${name}`);
  } catch (error) {
    console.log(`FAILED ${name}`, error);
    failed++;
  } finally {
    await client.end();
  }
}
clearTimeout(timer);
process.exit(failed ? 1 : 0);
