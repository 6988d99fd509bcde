-- On top of the stand-in (tests/citus/standin.sql), on every node: a table whose rows are one hop away where they are not, as with Citus. Its shards
-- are those of "events"; each worker keeps the rows of its tenants in a partition, which is a foreign table on every other node.
SET standin.allow_ddl = on;
CREATE TABLE trunkline_bench (project_id bigint NOT NULL, id bigint NOT NULL, payload jsonb) PARTITION BY LIST (project_id);
INSERT INTO pg_dist_partition SELECT 'trunkline_bench', partmethod, partkey, colocationid, repmodel, autoconverted
    FROM pg_dist_partition WHERE logicalrelid = 'events'::regclass;
WITH shards AS (SELECT shardid, shardstorage, shardminvalue, shardmaxvalue FROM pg_dist_shard WHERE logicalrelid = 'events'::regclass),
    placed AS (INSERT INTO pg_dist_placement SELECT placementid + 900000, shardid + 900000, shardstate, shardlength, groupid
        FROM pg_dist_placement WHERE shardid IN (SELECT shardid FROM shards))
INSERT INTO pg_dist_shard SELECT 'trunkline_bench', shardid + 900000, shardstorage, shardminvalue, shardmaxvalue FROM shards;
DO $$
DECLARE part record; name text;
BEGIN
    FOR part IN
        SELECT groupid, string_agg(n::text, ',') AS tenants, groupid = (SELECT groupid FROM pg_dist_local_group) AS is_here
        FROM generate_series(0, 999) AS n, pg_dist_shard JOIN pg_dist_placement USING (shardid)
        WHERE logicalrelid = 'trunkline_bench'::regclass AND hashint8(n) BETWEEN shardminvalue::int8 AND shardmaxvalue::int8
        GROUP BY groupid
    LOOP
        name := 'trunkline_bench_' || part.groupid;
        IF part.is_here THEN
            EXECUTE format('CREATE TABLE %I PARTITION OF trunkline_bench FOR VALUES IN (%s)', name, part.tenants);
            EXECUTE format('ALTER TABLE %I ADD PRIMARY KEY (project_id, id)', name);
        ELSE
            EXECUTE format('CREATE FOREIGN TABLE %I PARTITION OF trunkline_bench FOR VALUES IN (%s) SERVER g%s OPTIONS (table_name %L)',
                name, part.tenants, part.groupid, name);
        END IF;
    END LOOP;
END $$;
-- Takes the foreign tables away, and puts them back.
CREATE TABLE citus.bench_away (name text, bound text);
CREATE PROCEDURE citus.bench_detach() LANGUAGE plpgsql AS $$
DECLARE part record;
BEGIN
    INSERT INTO citus.bench_away SELECT oid::regclass, pg_get_expr(relpartbound, oid) FROM pg_class
        WHERE relkind = 'f' AND oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'trunkline_bench'::regclass);
    FOR part IN SELECT * FROM citus.bench_away LOOP
        EXECUTE format('ALTER TABLE trunkline_bench DETACH PARTITION %I', part.name);
    END LOOP;
END $$;
CREATE PROCEDURE citus.bench_attach() LANGUAGE plpgsql AS $$
DECLARE part record;
BEGIN
    FOR part IN DELETE FROM citus.bench_away RETURNING * LOOP
        EXECUTE format('ALTER TABLE trunkline_bench ATTACH PARTITION %I %s', part.name, part.bound);
    END LOOP;
END $$;
GRANT ALL ON ALL TABLES IN SCHEMA public TO PUBLIC;
