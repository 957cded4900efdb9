"""The team's stack as plain processes of one machine: no container engine, no root, no network.

PostgreSQL, an S3 store, Prefect's and MLflow's servers behind passwords, and a worker for each
pool, all below one folder (`.stack`) and on free ports of 127.0.0.1:

    python -m infra.local up        # or `make stack`: starts whatever does not run, and waits
    set -a; . .stack/env; set +a    # addresses and passwords, for this shell
    python -m flows.deploy          # once: pools, deployments, schedules
    python -m infra.local up        # pools are there now: their workers start too
    python -m infra.local status    # what runs where; exit status 1 if something does not
    python -m infra.local down      # ends all of it; `up` finds everything still there
    python -m infra.local backup FILE     # the databases, while everything runs
    python -m infra.local restore FILE    # the databases as they were then, also in a new stack
"""
