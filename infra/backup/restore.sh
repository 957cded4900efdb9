#!/usr/bin/env bash
# Bring back the databases of one dump, all or none: restore.sh FOLDER/DATE
# Stop the servers first. PGHOST, PGUSER and PGPASSWORD name an administrator of the database server; on a new one,
# databases.sql makes roles and empty databases before. What was there stays, as NAME_before_DATE, until it is dropped.
set -euo pipefail
folder=${1:?name the folder of one dump, such as /srv/backups/2026-11-26T020000Z}
databases=(prefect mlflow mlflow_auth)
export PGOPTIONS=--client-min-messages=warning
ask() { psql --no-password --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --dbname=postgres "$@"; }

(cd "$folder" && sha256sum --check --quiet --strict SHA256SUMS)
# Who has just left is still there for a moment.
for _ in 1 2 3 4 5; do
    working=$(ask --tuples-only --no-align --command="SELECT string_agg(DISTINCT datname, ', ') FROM pg_stat_activity
        WHERE datname IN ('prefect', 'mlflow', 'mlflow_auth') AND backend_type = 'client backend'")
    [ -n "$working" ] || break
    sleep 1
done
if [ -n "$working" ]; then
    echo "restore.sh: somebody is connected to $working; stop the servers first" >&2
    exit 1
fi
for database in "${databases[@]}"; do
    ask --command="DROP DATABASE IF EXISTS ${database}_restoring"
    ask --command="CREATE DATABASE ${database}_restoring TEMPLATE template0"
    pg_restore --no-password --exit-on-error --dbname="${database}_restoring" "$folder/$database.dump"
done
# The server's clock, to the microsecond: a second restore within a second keeps its own.
now=$(ask --tuples-only --no-align \
    --command="SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYYMMDD\"t\"HH24MISSUS\"z\"')")
# All of it is known before any of it is said: psql would keep what it was told before a pipe ended early.
swap=
for database in "${databases[@]}"; do
    owner=$(ask --tuples-only --no-align --command="SELECT pg_get_userbyid(datdba) FROM pg_database
        WHERE datname = '$database'")
    swap+="ALTER DATABASE $database RENAME TO ${database}_before_$now;
        ALTER DATABASE ${database}_restoring RENAME TO $database;
        ALTER DATABASE $database OWNER TO \"$owner\";
        REVOKE CONNECT ON DATABASE $database FROM PUBLIC;"
done
# In one transaction; where somebody connects all the same it fails, and nothing changes.
echo "$swap" | ask --single-transaction
echo "restored ${databases[*]}; what was there before is NAME_before_$now"
