-- On top of standin.sql: what an application calls to distribute tables, and to move a shard, so that tests of a real Citus run here, too.
-- Called on the coordinator. A shard is a partition on its owner and a foreign table on the other worker, as with 'events'; the coordinator,
-- whose catalog must show no foreign tables, has a view of what a worker answers. Not shown: colocation (every table has its own), propagation of DDL other than DROP SCHEMA, and data that moves with its shard (the node that had
-- it goes on answering, as Citus' does).
\set ON_ERROR_STOP on
SET client_min_messages = warning;
SET standin.allow_ddl = on;
CREATE EXTENSION dblink SCHEMA citus;

-- Each in a transaction of its own.
CREATE FUNCTION citus.on_others(sql text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE n record; BEGIN
    FOR n IN SELECT * FROM pg_dist_node WHERE groupid <> (SELECT groupid FROM pg_dist_local_group) AND noderole = 'primary' LOOP
        PERFORM citus.dblink_exec(format('host=%s port=%s dbname=%s user=%s', n.nodename, n.nodeport, current_database(), current_user),
            'SET standin.allow_ddl = on; ' || sql);
    END LOOP;
END $$;
CREATE FUNCTION citus.everywhere(sql text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM citus.on_others(sql);
    EXECUTE sql;
END $$;

-- Writes a row (k, v) of the coordinator's view.
CREATE FUNCTION citus.write_remote() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    CASE TG_OP
        WHEN 'INSERT' THEN EXECUTE format('INSERT INTO %s VALUES (($1).*)', TG_ARGV[0]) USING NEW;
        WHEN 'UPDATE' THEN EXECUTE format('UPDATE %s SET v = $1.v WHERE k = $2.k AND v = $2.v', TG_ARGV[0]) USING NEW, OLD;
        WHEN 'DELETE' THEN EXECUTE format('DELETE FROM %s WHERE k = $1.k AND v = $1.v', TG_ARGV[0]) USING OLD;
    END CASE;
    RETURN CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
END $$;
-- One node's part of a table. Shards are numbered from 'first' on.
CREATE PROCEDURE citus.make_shards(schema text, tab text, columns text, key text, first bigint, shards int) LANGUAGE plpgsql AS $$
DECLARE
    name text := format('%I.%I', schema, tab);
    me int := (SELECT groupid FROM pg_dist_local_group);
    width bigint := 4294967296 / shards;
    workers int[] := ARRAY(SELECT groupid FROM pg_dist_node WHERE noderole = 'primary' AND shouldhaveshards ORDER BY groupid);
    lo bigint; owner int; bounds text; shard text; remote text;
BEGIN
    IF me = 0 THEN
        remote := format('%I.%I', schema, tab || ' remote');
        EXECUTE format('CREATE FOREIGN TABLE %s (%s) SERVER g%s OPTIONS (schema_name %L, table_name %L)', remote, columns, workers[1], schema, tab);
        -- By its number: who reads a foreign table by its name is for the coordinator, as foreign tables are. Shards are not.
        EXECUTE format('CREATE FUNCTION %s() RETURNS SETOF %s LANGUAGE plpgsql STABLE SECURITY DEFINER AS %L', remote, remote,
            format('BEGIN RETURN QUERY EXECUTE format(''TABLE %%s'', %s::regclass); END', remote::regclass::oid));
        EXECUTE format('CREATE VIEW %s AS SELECT * FROM %s()', name, remote);
        EXECUTE format('CREATE TRIGGER remote INSTEAD OF INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION citus.write_remote(%L)', name, remote);
    ELSE
        EXECUTE format('CREATE TABLE %s (%s) PARTITION BY RANGE (worker_hash(%I))', name, columns, key);
    END IF;
    INSERT INTO pg_dist_partition SELECT attrelid, 'h', format('{VAR :varno 1 :varattno %s :varlevelsup 0}', attnum), first, 's', false
        FROM pg_attribute WHERE attrelid = name::regclass AND attname = key;
    FOR i IN 0 .. shards - 1 LOOP
        lo := -2147483648 + i * width;
        owner := workers[1 + i % cardinality(workers)];
        INSERT INTO pg_dist_shard VALUES (name::regclass, first + i, 't', lo::text, (lo + width - 1)::text);
        INSERT INTO pg_dist_placement VALUES (100 * (first + i), first + i, 1, 0, owner);
        CONTINUE WHEN me = 0;
        bounds := format('FOR VALUES FROM (%s) TO (%s)', lo, CASE WHEN i < shards - 1 THEN (lo + width)::text ELSE 'MAXVALUE' END);
        shard := format('%I.%I', schema, tab || '_' || (first + i));
        IF owner = me THEN EXECUTE format('CREATE TABLE %s PARTITION OF %s %s', shard, name, bounds);
        ELSE EXECUTE format('CREATE FOREIGN TABLE %s PARTITION OF %s %s SERVER g%s', shard, name, bounds, owner); END IF;
    END LOOP;
    EXECUTE format('GRANT ALL ON ALL TABLES IN SCHEMA %I TO PUBLIC', schema);
END $$;
-- One node's copy of a table.
CREATE PROCEDURE citus.make_copy(schema text, tab text, columns text, rows json, first bigint) LANGUAGE plpgsql AS $$
DECLARE name text := format('%I.%I', schema, tab); BEGIN
    EXECUTE format('CREATE TABLE %s (%s)', name, columns);
    EXECUTE format('INSERT INTO %s SELECT * FROM json_populate_recordset(NULL::%s, $1)', name, name) USING rows;
    INSERT INTO pg_dist_partition VALUES (name::regclass, 'n', NULL, 4, 't', false);
    INSERT INTO pg_dist_shard VALUES (name::regclass, first, 't', NULL, NULL);
    INSERT INTO pg_dist_placement SELECT 100 * first + groupid, first, 1, 0, groupid FROM pg_dist_node WHERE noderole = 'primary';
    EXECUTE format('GRANT ALL ON %s TO PUBLIC', name);
END $$;
-- Takes a table away, and has its parts made by a procedure that is given its names, its columns, and 'more'.
CREATE FUNCTION citus.make_instead(t regclass, procedure text, more text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE schema text; tab text; columns text; first bigint := (SELECT max(shardid) + 1 FROM pg_dist_shard); BEGIN
    SELECT nspname, relname INTO schema, tab FROM pg_class JOIN pg_namespace AS n ON n.oid = relnamespace WHERE pg_class.oid = t;
    SELECT string_agg(format('%I %s%s', attname, format_type(atttypid, atttypmod), CASE WHEN attnotnull THEN ' NOT NULL' END), ', ' ORDER BY attnum)
        INTO columns FROM pg_attribute WHERE attrelid = t AND attnum > 0;
    EXECUTE format('DROP TABLE %s', t);
    PERFORM citus.on_others(format('CREATE SCHEMA IF NOT EXISTS %I; GRANT ALL ON SCHEMA %I TO PUBLIC', schema, schema));
    PERFORM citus.everywhere(format('CALL citus.%s(%L, %L, %L, ', procedure, schema, tab, columns) || replace(more, '%first', first::text) || ')');
END $$;

CREATE FUNCTION citus.create_distributed_table(table_name regclass, distribution_column text, distribution_type text DEFAULT 'hash',
    colocate_with text DEFAULT 'default', shard_count int DEFAULT 4) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    PERFORM citus.make_instead(table_name, 'make_shards', format('%L, %%first, %s', distribution_column, shard_count));
END $$;
CREATE FUNCTION citus.create_reference_table(table_name regclass) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE rows json; BEGIN
    EXECUTE format('SELECT coalesce(json_agg(t), ''[]'') FROM %s AS t', table_name) INTO rows;
    PERFORM citus.make_instead(table_name, 'make_copy', format('%L, %%first', rows));
END $$;
CREATE FUNCTION citus.citus_move_shard_placement(shard_id bigint, source_node_name text, source_node_port int, target_node_name text,
    target_node_port int, shard_transfer_mode text DEFAULT 'auto') RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    PERFORM citus.everywhere(format('UPDATE pg_dist_placement SET groupid = (SELECT groupid FROM pg_dist_node WHERE (nodename, nodeport) = (%L, %s)) '
        'WHERE shardid = %s AND groupid = (SELECT groupid FROM pg_dist_node WHERE (nodename, nodeport) = (%L, %s))',
        target_node_name, target_node_port, shard_id, source_node_name, source_node_port));
END $$;
ALTER FUNCTION citus.create_distributed_table(regclass, text, text, text, int) SET SCHEMA pg_catalog;
ALTER FUNCTION citus.create_reference_table(regclass) SET SCHEMA pg_catalog;
ALTER FUNCTION citus.citus_move_shard_placement(bigint, text, int, text, int, text) SET SCHEMA pg_catalog;

-- A schema that is dropped is dropped everywhere, and forgotten.
CREATE FUNCTION citus.propagate_drop() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE o record; BEGIN
    FOR o IN SELECT * FROM pg_event_trigger_dropped_objects() WHERE object_type = 'schema' LOOP
        PERFORM citus.on_others(format('DROP SCHEMA IF EXISTS %I CASCADE', o.object_name));
        PERFORM citus.everywhere('DELETE FROM pg_dist_placement USING pg_dist_shard AS s WHERE s.shardid = pg_dist_placement.shardid '
            'AND s.logicalrelid NOT IN (SELECT oid FROM pg_class); '
            'DELETE FROM pg_dist_shard WHERE logicalrelid NOT IN (SELECT oid FROM pg_class); '
            'DELETE FROM pg_dist_partition WHERE logicalrelid NOT IN (SELECT oid FROM pg_class)');
    END LOOP;
END $$;
SELECT :group = 0 AS co \gset
\if :co
CREATE EVENT TRIGGER propagate_drop ON sql_drop WHEN TAG IN ('DROP SCHEMA') EXECUTE FUNCTION citus.propagate_drop();
\endif
GRANT USAGE ON SCHEMA citus TO PUBLIC;

