#!/bin/bash
# Copies the primary ($PRIMARY_HOST, "primary" if unset) on the first start, then follows it through a replication slot of its own.
# Arguments are postgres's.
set -euo pipefail
primary=${PRIMARY_HOST:-primary}

if [ ! -s "$PGDATA/PG_VERSION" ]; then
    # a copy that was broken off
    rm -rf "${PGDATA:?}"
    export PGPASSWORD="$REPLICATION_PASSWORD"
    until pg_basebackup --pgdata "$PGDATA" --wal-method stream --checkpoint fast --write-recovery-conf \
        --slot "$REPLICATION_SLOT" --dbname "host=$primary user=replicator application_name=$REPLICATION_SLOT"; do
        echo "replica.sh: $primary isn't ready yet" >&2
        rm -rf "${PGDATA:?}"
        sleep 2
    done
    unset PGPASSWORD
    chmod 700 "$PGDATA"
fi

exec postgres "$@"
