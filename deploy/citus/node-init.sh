#!/bin/bash
# Runs once on each node, when its own cluster has been made: how nodes log in at each other, and who may copy it.
set -euo pipefail

# Nodes come to each other as the user whose statement it is, and as the superuser for metadata: they need the passwords of both.
line() { printf '*:*:*:%s:%s\n' "$1" "$(printf %s "$2" | sed 's/[\\:]/\\&/g')"; }
(
    umask 077
    {
        line postgres "$POSTGRES_PASSWORD"
        line app "$APP_PASSWORD"
    } >"$PGPASSFILE"
)

# On each node its own: a role that is made before the nodes know each other isn't told to anybody.
psql --set ON_ERROR_STOP=1 --username postgres --dbname app --set replication="$REPLICATION_PASSWORD" <<'SQL'
SET citus.enable_create_role_propagation = off;
CREATE ROLE replicator LOGIN REPLICATION PASSWORD :'replication';
SELECT pg_create_physical_replication_slot('standby');
SQL

echo 'host replication replicator all scram-sha-256' >>"$PGDATA/pg_hba.conf"
