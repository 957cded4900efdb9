#!/usr/bin/env bash
# Dump the databases of Prefect and MLflow into FOLDER/DATE, whole or not at all: backup.sh FOLDER
# PGHOST, PGUSER and PGPASSWORD say of which server. Copy the store after this, never before: then it holds whatever
# the dump speaks of.
set -euo pipefail
umask 077
folder=${1:?name the folder to dump into, such as /srv/backups}
name=$(date --utc +%Y-%m-%dT%H%M%SZ)
partial=$folder/.$name.partial
trap 'rm -rf "$partial"' EXIT
mkdir "$partial"
for database in prefect mlflow mlflow_auth; do
    pg_dump --no-password --format=custom --file="$partial/$database.dump" "$database"
done
(cd "$partial" && sha256sum -- *.dump > SHA256SUMS && sync -- *)
mv -T "$partial" "$folder/$name"  # never into a dump of the same second
echo "$folder/$name"
