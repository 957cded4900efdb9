"""What stages took: measured over all their processes, kept by what they made, and summed."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest

from lcm_lora.params.costs import Costs
from tasks.running import process
from tasks.running.cost import Cost, Meter, drawn, find, keep, spent
from tasks.running.gpus import Gpu
from tasks.running.graph import behind
from tasks.running.run_cache import key_of

BURN = (
    "import subprocess, sys, time\n"
    "if len(sys.argv) > 1: subprocess.run([sys.executable, '-c', open(sys.argv[1]).read()])\n"
    "end = time.process_time() + 0.5\n"
    "while time.process_time() < end: pass\n"
)


def entry(name: str, *deps: str) -> dict[str, object]:
    """Return an entry of dvc.lock."""
    return {
        "cmd": f"make {name}",
        "deps": [{"path": path, "md5": "0" * 32} for path in deps],
        "outs": [{"path": name, "md5": "1" * 32}],
    }


MADE = {
    "prepare": entry("data/shards", "code.py"),
    "distill": entry("artifacts/candidates", "data/shards"),
    "select": entry("artifacts/adapter", "artifacts/candidates/step-1"),
    "score": entry("scores.json", "artifacts/adapter"),
}
ON_GPUS = {"gpus": 2, "gpu": "H100", "joules": 7.2e6}


def cost(seconds: float, **more: object) -> Cost:
    """Return what a stage took that kept two cores busy."""
    plain = {"started": "2026-11-26T08:00:00+00:00", "gpus": 0, "gpu": None, "joules": None}
    return Cost.model_validate(plain | {"seconds": seconds, "cpu_seconds": 2 * seconds} | more)


def keep_all(root: Path) -> None:
    for name, took in {
        "prepare": cost(1800),
        "distill": cost(3600, **ON_GPUS),
        "select": cost(900, **ON_GPUS),
    }.items():
        keep(root, key_of(MADE[name]), took)


def test_busy_seconds_are_those_of_grandchildren_too(tmp_path: Path) -> None:
    (tmp_path / "burn.py").write_text(BURN)
    meter = Meter(on_gpus=False)
    process.run(
        [sys.executable, "burn.py", "burn.py"],
        print,
        folder=tmp_path,
        environment=os.environ,
        stop=threading.Event(),
        on_end=meter.add_cpu_seconds,
    )
    read = meter.read()
    assert 1.0 < read.cpu_seconds < 2 * read.seconds  # one at a time is busy
    assert read.seconds > 1.0
    assert (read.gpus, read.gpu, read.joules) == (0, None, None)


def test_an_output_comes_from_those_stages_alone_that_lead_to_it() -> None:
    assert behind(MADE, Path("artifacts/adapter")) == ["distill", "prepare", "select"]
    assert behind(MADE, Path("data/shards/one.tar")) == ["prepare"]


def test_costs_add_up_and_have_a_price(tmp_path: Path) -> None:
    keep_all(tmp_path)
    prices = Costs(gpu_hour=2.0, cpu_hour=0.1, kilowatt_hour=0.25, currency="USD")
    own = {name: MADE[name] for name in behind(MADE, Path("artifacts/adapter"))}
    total = spent(tmp_path, own, prices)
    assert total.missing == ()
    assert total.seconds == 6300
    assert total.gpu_seconds == 2 * 4500
    assert total.joules == 14.4e6
    assert total.price == pytest.approx(2.5 * 2.0 + 3.5 * 0.1 + 4 * 0.25)
    assert str(total) == "2.5 h of a GPU, 3.5 h of a CPU core, 4 kWh, 6.35 USD"


def test_what_has_no_record_is_missing_and_not_nothing(tmp_path: Path) -> None:
    keep_all(tmp_path)
    total = spent(tmp_path, MADE, Costs())
    assert total.missing == ("score",)
    assert str(total).endswith("; no record of score")
    # A damaged record is none.
    path = next((tmp_path / ".checkpoints" / "costs").glob(f"{key_of(MADE['prepare'])}.json"))
    path.write_text('{"seconds": ')
    assert spent(tmp_path, MADE, Costs()).missing == ("prepare", "score")


def test_energy_is_told_only_where_every_gpu_says_it(tmp_path: Path) -> None:
    before = [Gpu("H100", 10.0), Gpu("H100", 20.0)]
    assert drawn(before, [Gpu("H100", 15.0), Gpu("H100", 21.5)]) == 6.5
    assert drawn(before, [Gpu("H100", 15.0), Gpu("H100", None)]) is None
    assert drawn(before, [Gpu("H100", 15.0)]) is None
    keep_all(tmp_path)
    keep(tmp_path, key_of(MADE["score"]), cost(60, gpus=1, gpu="K80"))
    assert spent(tmp_path, MADE, Costs()).joules is None


def test_what_another_machine_took_is_found_in_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LCM_LORA_STORE", str(tmp_path / "store"))
    here, there = tmp_path / "here", tmp_path / "there"
    keep(there, "key", cost(5))
    assert find(here, "key") == cost(5)
    assert find(here, "another") is None
    # A store that cannot be written costs nobody what they made.
    (tmp_path / "file").touch()
    monkeypatch.setenv("LCM_LORA_STORE", str(tmp_path / "file" / "within"))
    keep(here, "other", cost(6))
    assert find(here, "other") == cost(6)
    assert find(there, "other") is None
