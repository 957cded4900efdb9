#!/bin/sh
# Print .env.example with a new secret wherever it leaves one out: infra/secrets.sh > infra/.env
set -eu
umask 077
while IFS= read -r line; do
    case $line in
    [A-Z]*_KEY=) echo "$line$(head -c 32 /dev/urandom | base64 | tr '+/' '-_')" ;;
    [A-Z]*=) echo "$line$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')" ;;
    *) echo "$line" ;;
    esac
done < "$(dirname "$0")/.env.example"
