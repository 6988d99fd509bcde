//! Functions of TimescaleDB: known by the extension that owns them. Another extension stands in for it, under its name and with functions of
//! its functions' names and volatility.

use super::*;

const STANDIN: &str = "
    CREATE EXTENSION fuzzystrmatch;
    CREATE TABLE metrics (time timestamptz NOT NULL, device int NOT NULL, value float8);
    CREATE TABLE made (what text);
    INSERT INTO metrics SELECT '2026-01-01'::timestamptz + n * '1 hour'::interval, n % 3, n FROM generate_series(1, 48) AS n;
    CREATE FUNCTION on_replica() RETURNS bool STABLE LANGUAGE sql AS 'SELECT pg_is_in_recovery()';
    CREATE FUNCTION time_bucket(interval, timestamptz) RETURNS timestamptz IMMUTABLE LANGUAGE sql
        AS 'SELECT date_bin($1, $2, ''2000-01-01'')';
    CREATE FUNCTION time_bucket_gapfill(interval, timestamptz) RETURNS timestamptz LANGUAGE sql
        AS 'SELECT date_bin($1, $2, ''2000-01-01'')';
    CREATE FUNCTION locf(float8) RETURNS float8 LANGUAGE sql AS 'SELECT $1';
    CREATE FUNCTION interpolate(float8) RETURNS float8 LANGUAGE sql AS 'SELECT $1';
    CREATE FUNCTION hypertable_size(regclass) RETURNS bigint LANGUAGE sql AS 'SELECT pg_total_relation_size($1)';
    CREATE FUNCTION approximate_row_count(regclass) RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM metrics';
    CREATE FUNCTION show_chunks(regclass) RETURNS SETOF regclass STABLE LANGUAGE sql AS 'SELECT $1';
    CREATE FUNCTION create_hypertable(regclass, name) RETURNS text LANGUAGE sql AS 'INSERT INTO made VALUES ($2) RETURNING what';
    CREATE FUNCTION add_job(text, interval) RETURNS text LANGUAGE sql AS 'INSERT INTO made VALUES ($1) RETURNING what';
    CREATE FUNCTION compress_chunk(regclass) RETURNS text LANGUAGE sql AS 'INSERT INTO made VALUES ($1) RETURNING what';
    CREATE FUNCTION has_invalidation_trigger(regclass) RETURNS bool LANGUAGE sql AS 'SELECT true';
    CREATE FUNCTION insert_blocker() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
    CREATE FUNCTION continuous_agg_invalidation_trigger() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
    CREATE FUNCTION cagg_watermark(int) RETURNS timestamptz STABLE LANGUAGE sql AS 'SELECT max(time) FROM metrics';
    CREATE VIEW live AS SELECT time, value FROM metrics WHERE time >= cagg_watermark(2);
    CREATE TABLE chunk () INHERITS (metrics);
    CREATE TRIGGER ts_insert_blocker BEFORE INSERT ON metrics FOR EACH ROW EXECUTE FUNCTION insert_blocker();
    CREATE TRIGGER ts_cagg_invalidation_trigger AFTER INSERT OR UPDATE OR DELETE ON metrics FOR EACH ROW
        EXECUTE FUNCTION continuous_agg_invalidation_trigger();
    CREATE TRIGGER ts_cagg_invalidation_trigger AFTER INSERT OR UPDATE OR DELETE ON chunk FOR EACH ROW
        EXECUTE FUNCTION continuous_agg_invalidation_trigger();
    CREATE SCHEMA own;
    CREATE TABLE watched (n int);
    CREATE FUNCTION own.insert_blocker() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
    CREATE TRIGGER ts_insert_blocker BEFORE INSERT ON watched FOR EACH ROW EXECUTE FUNCTION own.insert_blocker();
    CREATE FUNCTION own.hypertable_size(regclass) RETURNS text LANGUAGE sql AS 'INSERT INTO made VALUES ($1) RETURNING what';
    DO $$ DECLARE f regprocedure; BEGIN
        FOR f IN SELECT oid FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND prolang <> (SELECT oid FROM pg_language WHERE lanname = 'c') LOOP
            EXECUTE format('ALTER EXTENSION fuzzystrmatch ADD FUNCTION %s', f);
        END LOOP;
    END $$;
    CREATE VIEW hourly AS SELECT time_bucket('1 hour', time) AS bucket, device, avg(value) AS value FROM metrics GROUP BY 1, 2;
    SET allow_system_table_mods = on;
    UPDATE pg_extension SET extname = 'timescaledb' WHERE extname = 'fuzzystrmatch';
    GRANT ALL ON ALL TABLES IN SCHEMA public TO app; GRANT USAGE ON SCHEMA own TO app;
";

#[test]
fn timescaledbs_reads_run_on_replicas_and_what_it_manages_on_the_primary() {
    let world = world_with(Plan { routing: "consistency = \"eventual\"\nmax_lag = \"0\"", ..Plan::default() });
    world.db.run(STANDIN);
    world.db.wait_replayed();
    // A change of the schema through Trunkline has it read at once.
    world.client().rows("CREATE TABLE another (n int)");
    world.settle();
    let mut client = world.client();
    for (list, rest) in [
        ("time_bucket_gapfill('1 day', time) AS day, locf(avg(value)), interpolate(avg(value))", "metrics GROUP BY 1"),
        ("time_bucket('1 day', time)", "metrics"),
        ("public.hypertable_size('metrics'), approximate_row_count('metrics')", "metrics"),
        ("value", "hourly"),
        ("chunk", "show_chunks('metrics') AS chunk"),
        ("has_invalidation_trigger('metrics')", "metrics"),
    ] {
        let sql = format!("SELECT {list}, on_replica() FROM {rest} LIMIT 1");
        is_read(&world, &sql);
        let mut row = client.rows(&sql).remove(0);
        assert_eq!(row.pop().flatten().as_deref(), Some("t"), "{sql}");
    }
    for (manages, said) in [
        ("SELECT create_hypertable('metrics', 'time')", "time"),
        ("SELECT add_job('refresh', '1 hour')", "refresh"),
        ("SELECT compress_chunk(chunk) FROM show_chunks('metrics') AS chunk", "metrics"),
        ("SELECT own.hypertable_size('metrics')", "metrics"),
    ] {
        is_for_primary(&world, manages, "volatile_function", "is VOLATILE");
        assert_eq!(client.value(manages), said);
    }
    assert_eq!(world.db.run("SELECT count(*) FROM made"), "4");
    // What is written to a hypertable is seen where that is read, and no other table's reads wait for it.
    let hypertable = touched(&world, "SELECT * FROM metrics").0;
    for write in ["INSERT INTO metrics VALUES (now(), 1, 1)", "UPDATE metrics SET value = 1", "DELETE FROM metrics"] {
        assert_eq!(touched(&world, write).1, hypertable, "{write}");
    }
    for read in ["SELECT * FROM chunk", "SELECT * FROM live", "SELECT locf(avg(value)) FROM metrics"] {
        assert_eq!(touched(&world, read).0, hypertable, "{read}");
    }
    assert_eq!(touched(&world, "INSERT INTO watched VALUES (1)").1, "all", "a trigger of the user's own, of that name");
    assert_eq!(world.counter("trunkline_reruns_total", &[]), 0.0, "nothing was tried on a replica first");
}
