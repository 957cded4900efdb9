"""Run one stage for a run that works elsewhere: what a worker of a pool does for it."""

from __future__ import annotations

import sqlite3
from typing import Any

from prefect import flow
from prefect.client.schemas import State
from prefect.logging import get_run_logger
from prefect.states import Completed, Failed

from flows import worker
from lcm_lora.errors import UserError, explained
from tasks.isolated import station
from tasks.isolated.request import Order
from tasks.running import process
from tasks.running.stage import StageError


@flow(name="run-stage", flow_run_name="{order.stage}")
def run_stage(order: Order) -> State[Any]:
    """Make what is ordered; the state is Ran, Restored, or Failed with one line."""
    worker.end_with_worker()
    try:
        outcome = station.carry_out(worker.project(), order, get_run_logger().info)
    except (StageError, UserError, process.OverdueError) as error:
        return Failed(message=str(error))
    except (OSError, sqlite3.OperationalError) as error:
        return Failed(message=explained(error))
    return Completed(name=outcome.verdict, message=f"{outcome.seconds:.0f} s")
