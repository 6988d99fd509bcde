-- On top of standin.sql: a table that says which node answers, and one empty table for each type of distribution column, on every node.
\set ON_ERROR_STOP on
SET client_min_messages = warning;
SET standin.allow_ddl = on;
CREATE TABLE whoami (node text NOT NULL);
INSERT INTO whoami VALUES ('group ' || :group);
INSERT INTO pg_dist_partition VALUES ('whoami', 'n', NULL, 4, 't', false);
INSERT INTO pg_dist_shard VALUES ('whoami', 103000, 't', NULL, NULL);
INSERT INTO pg_dist_placement SELECT 103000 + groupid, 103000, 1, 0, groupid FROM pg_dist_node WHERE noderole = 'primary';

CREATE TABLE citus.types (n int, name text);
INSERT INTO citus.types VALUES (0, 'bigint'), (1, 'integer'), (2, 'smallint'), (3, 'text'), (4, 'varchar(40)'), (5, 'char(20)'), (6, 'uuid'),
    (7, 'boolean'), (8, 'date'), (9, 'timestamp'), (10, 'timestamptz'), (11, 'bytea'), (12, 'numeric'), (13, 'text COLLATE ci');
CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
DO $$
DECLARE t record; s int;
BEGIN
    FOR t IN SELECT * FROM citus.types LOOP
        EXECUTE format('CREATE TABLE k%s (k %s NOT NULL, v text)', t.n, t.name);
        INSERT INTO pg_dist_partition
            VALUES (format('k%s', t.n)::regclass, 'h', '{VAR :varno 1 :varattno 1 :varlevelsup 0}', 100 + t.n, 's', false);
        FOR s IN 0..31 LOOP
            INSERT INTO pg_dist_shard VALUES (format('k%s', t.n)::regclass, 200000 + 100 * t.n + s, 't',
                (-2147483648 + s * 134217728::bigint)::text, (-2147483648 + (s + 1) * 134217728::bigint - 1)::text);
            INSERT INTO pg_dist_placement VALUES (200000 + 100 * t.n + s, 200000 + 100 * t.n + s, 1, 0, 1 + s % 2);
        END LOOP;
    END LOOP;
END $$;
GRANT ALL ON ALL TABLES IN SCHEMA public TO PUBLIC;
GRANT CREATE ON SCHEMA public TO PUBLIC;
