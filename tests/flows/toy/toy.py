"""Stages that do in a moment what the real ones do in minutes, on the same paths."""

import json
import os
import sys
import time
from pathlib import Path

PARAMS = json.loads(Path("params.yaml").read_text())  # JSON is YAML
NOTES = Path(".checkpoints")


def write(path, value):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))


def prepare():
    write("data/shards/train.txt", "x" * PARAMS["prepare"]["source"]["count"])


def distill():
    lines = [
        json.dumps({"step": i, "loss": 1 / (i + 1), "grad_norm": 1.0, "learning_rate": 0.1}) + "\n"
        for i in range(3)
    ]
    live = NOTES / "distill" / "curve.jsonl"
    write(live, "".join(lines[:2]) + '{"step": 2, "lo')  # the last line is half written
    sys.stderr.write("distill: 2/3 steps\n")
    # Under MLflow's eyes: the test holds the stage here until it has seen the curve there.
    while (NOTES / "hold").exists():
        time.sleep(0.1)
    write(live, "".join(lines))
    write("artifacts/training/curve.jsonl", "".join(lines))
    write("artifacts/adapter/pytorch_lora_weights.safetensors", str(PARAMS["distill"]["seed"]))
    recipe = {
        "base": {"model": "team/base", "revision": "abc"},
        "scheduler": {"class": "LCMScheduler", "config": {}},
        "recommended": {"steps": [2, 4], "guidance": 1.0},
    }
    write("artifacts/adapter/recipe.json", recipe)


def generate(sampler):
    write(f"artifacts/images/{sampler}/picture.txt", f"{sampler} {PARAMS['generate']['seed']}")


def score():
    weights = Path("artifacts/adapter/pytorch_lora_weights.safetensors").read_text()
    common = {"guidance": 1.0, "seeds": 0, "nfe": 4, "n": 8, "network": "toy", "ms": 1.0}
    rows = [
        {
            "sampler": "lcm",
            "steps": 4,
            "metric": "fd_shapes:real",
            "value": float(weights),
            "se": 1.0,
        },
        {"sampler": "lcm", "steps": 4, "metric": "attributes", "value": 0.9, "se": 0.01},
        {"sampler": "ddim", "steps": 4, "metric": "fd_shapes:real", "value": 50.0, "se": 1.0},
    ]
    protocol = {"sha256": f"protocol-{PARAMS['score']['seed']}"}
    write(
        "artifacts/scores/scores.json",
        {"protocol": protocol, "rows": [row | common for row in rows], "paired": []},
    )


def report():
    if PARAMS["report"]["title"] == "bad":
        sys.stderr.write("Traceback (most recent call last): and so on\n")
        sys.stderr.write("error: report.title is bad; choose another\n")
        sys.stderr.write("and a farewell\n")
        sys.exit(1)
    write("artifacts/report/index.html", PARAMS["report"]["title"])
    write("artifacts/report/grid.png", "a picture")
    write("artifacts/report/model_card.md", "---\ntags: [lora]\n---\n\n# Toy\n")


NOTES.mkdir(exist_ok=True)
with (NOTES / "started").open("a") as started:
    started.write(" ".join(sys.argv[1:]) + "\n")
write(NOTES / "pid", str(os.getpid()))
globals()[sys.argv[1]](*sys.argv[2:])
