#!/bin/sh
# Bring the worker's clone of the project to the revision that it shall work with, then do what was asked.
set -eu
: "${LCM_LORA_REPOSITORY:?name the git repository of the project: a URL, or a folder of this container}"
cd "$LCM_LORA_PROJECT"
# Not `git clone`: the root of a volume need not be empty.
[ -e .git ] || git init --quiet
git remote add origin "$LCM_LORA_REPOSITORY" 2> /dev/null || git remote set-url origin "$LCM_LORA_REPOSITORY"
if git fetch --quiet --tags --force origin; then
    git remote set-head origin --auto > /dev/null
else
    echo "clone.sh: $LCM_LORA_REPOSITORY does not answer; going on with what was fetched before, if anything" >&2
fi
git checkout --quiet --detach "${LCM_LORA_REVISION:-origin/HEAD}"
# The remote and the cache of this worker, whatever the commit names; checkouts of other commits take them from here.
[ -z "${LCM_LORA_REMOTE:-}" ] || dvc remote add --quiet --local --force --default team "$LCM_LORA_REMOTE"
[ -z "${LCM_LORA_CACHE:-}" ] || dvc cache dir --quiet --local "$LCM_LORA_CACHE"
exec "$@"
