#!/bin/bash
# Runs once, when the primary's cluster has been made and the image has put TimescaleDB into the database: roles, a slot, and who may replicate.
set -euo pipefail

psql --set ON_ERROR_STOP=1 --username postgres --dbname app \
    --set replication="$REPLICATION_PASSWORD" --set app="$APP_PASSWORD" --set monitor="$MONITOR_PASSWORD" <<'SQL'
CREATE ROLE replicator LOGIN REPLICATION PASSWORD :'replication';
CREATE ROLE app LOGIN PASSWORD :'app';
CREATE ROLE trunkline_monitor LOGIN PASSWORD :'monitor' IN ROLE pg_monitor;
ALTER DATABASE app OWNER TO app;
SELECT pg_create_physical_replication_slot('replica1');
SQL

echo 'host replication replicator all scram-sha-256' >>"$PGDATA/pg_hba.conf"
