#!/bin/bash
# Run against the coordinator: `workers` makes a cluster of it and its workers, with the roles that Trunkline needs; `standbys` tells it of the
# standbys. Each may be run again.
set -euo pipefail

case ${1:-} in
workers)
    psql --set ON_ERROR_STOP=1 --set app="$APP_PASSWORD" --set monitor="$MONITOR_PASSWORD" <<'SQL'
-- The name by which workers (and Trunkline's log) know it; localhost would be each node's own.
SELECT citus_set_coordinator_host('coordinator', 5432);
-- Trunkline reaches workers at these names and ports. Adding one that is there already does nothing.
SELECT citus_add_node('worker1', 5432), citus_add_node('worker2', 5432);

-- From here on roles are made on all nodes, with the same passwords.
SELECT format('CREATE ROLE app LOGIN PASSWORD %L', :'app')
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'app') \gexec
SELECT format('CREATE ROLE trunkline_monitor LOGIN PASSWORD %L', :'monitor')
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'trunkline_monitor') \gexec
GRANT pg_monitor TO trunkline_monitor;
CREATE SCHEMA IF NOT EXISTS app AUTHORIZATION app;
SQL
    ;;
standbys)
    psql --set ON_ERROR_STOP=1 <<'SQL'
-- One for each node, all in the cluster that the standbys' own configuration names.
SELECT citus_add_secondary_node(node || '-standby', 5432, node, 5432, 'ro')
FROM unnest(ARRAY['coordinator', 'worker1', 'worker2']) AS node
WHERE NOT EXISTS (SELECT FROM pg_dist_node WHERE nodename = node || '-standby');
SQL
    ;;
*)
    echo "usage: cluster.sh workers|standbys" >&2
    exit 2
    ;;
esac
