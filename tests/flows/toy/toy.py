"""Stages that do in a moment what the real ones do in minutes, on the same paths."""

import hashlib
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

PARAMS = json.loads(Path("params.yaml").read_text())  # JSON is YAML
NOTES = Path(".checkpoints")


def write(path, value):
    damage = NOTES / "damage"  # a test's way to have a stage leave a broken file
    if damage.exists() and json.loads(damage.read_text())[0] == path:
        value = json.loads(damage.read_text())[1]
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))


def sha256(*texts):
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def git(*arguments):
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def inventory():
    files = sorted(Path("source").glob("*"))
    write("data/inventory/source.json", {file.name: sha256(file.read_text()) for file in files})
    for name in PARAMS["transfer"]["subjects"]:
        write(f"data/inventory/transfer/{name}.json", {"base": None, "adapters": []})
    from lcm_lora import champion, layout

    champion.take_over(layout.BROUGHT, layout.CHAMPION, "sd1")


def prepare(*share):
    if share:
        return  # others would find what it makes in the store that they share
    source = Path("data/inventory/source.json").read_text()
    write("data/shards/train.txt", "x" * PARAMS["prepare"]["source"]["count"] + source)


def distill():
    lines = [
        json.dumps({"step": i, "loss": 1 / i, "grad_norm": 1.0, "learning_rate": 0.1}) + "\n"
        for i in (1, 2, 3)
    ]
    live = NOTES / "distill" / "curve.jsonl"
    write(live, "".join(lines[:2]) + '{"step": 3, "lo')  # the last line is half written
    sys.stderr.write("distill: 2/3 steps\n")
    # Under MLflow's eyes: the test holds the stage here until it has seen the curve there.
    while (NOTES / "hold").exists():
        time.sleep(0.1)
    write(live, "".join(lines))
    write("artifacts/training/curve.jsonl", "".join(lines))
    origin = {
        "git_commit": git("rev-parse", "HEAD"),
        "git_dirty": bool(git("status", "--porcelain", "--", ".", ":!dvc.lock", ":!params.yaml")),
        "code_sha256": sha256(Path("toy.py").read_text()),
    }
    write("artifacts/training/origin.json", origin)
    for step, worse in ((2, 5), (3, 0)):
        folder = f"artifacts/candidates/step-{step:08d}"
        weights = str(PARAMS["distill"]["seed"] + worse)
        write(f"{folder}/pytorch_lora_weights.safetensors", weights)
        write(f"{folder}/adapter_kohya.safetensors", weights)
        write(f"{folder}/recipe.json", recipe(weights, step))


def select():
    wanted = PARAMS["select"]["steps"]  # the nearer to it, the better
    rows = [{"step": step, "value": abs(step - wanted), "se": 0.5} for step in (2, 3)]
    chosen = min(rows, key=lambda row: row["value"])["step"]
    shutil.copytree(f"artifacts/candidates/step-{chosen:08d}", "artifacts/adapter")
    how = {"metric": "kid:real", "lower_is_better": True, "steps": wanted, "guidance": 1.0}
    choice = how | {"prompts": 8, "rows": rows, "chosen": chosen}
    write("artifacts/selection/selection.json", choice)


def recipe(weights, step):
    return {
        "objective": "lcm",
        "grid": {"points": 1, "skip": 1, "timesteps": [0]},
        "prediction_type": "epsilon",
        "scheduler": {"class": "LCMScheduler", "config": {}},
        "recommended": {"steps": [2, 4], "guidance": 1.0},
        "guidance": {"convention": "imagen", "low": 3.0, "high": 3.0},
        "lora": {"rank": 1, "alpha": 1, "targets": ["to_q"]},
        "base": {
            "model": "team/base",
            "revision": "abc",
            "family": "sd1",
            "sha256": sha256(),
            "files": {},
        },
        "data": {"shards_sha256": sha256(), "cache_sha256": sha256(), "samples": 1},
        "step": step,
        "params": PARAMS["distill"],
        "hardware": {},
        "versions": {},
        "weights_sha256": sha256(weights),
        "kohya_sha256": sha256(weights),
    }


def generate(painter):
    data = Path("data/shards/train.txt").read_text()
    weights = Path("data/champion/adapter/pytorch_lora_weights.safetensors")
    who = weights.read_text() if painter == "champion" and weights.exists() else painter
    write(f"artifacts/images/{painter}/picture.txt", f"{who} {PARAMS['generate']['seed']} {data}")


def score():
    own = Path("artifacts/adapter/pytorch_lora_weights.safetensors").read_text()
    champion = json.loads(Path("data/champion/champion.json").read_text())["champion"]
    painted = {"adapter": float(own)}
    if champion:
        painted["champion"] = float(
            Path("artifacts/images/champion/picture.txt").read_text().split()[0]
        )
    painted["ddim"] = 50.0
    cells = [
        {
            **{"id": f"{name}/steps-4_guidance-1", "painter": name, "sampler": "lcm", "steps": 4},
            **{"guidance": 1.0, "seeds": 0, "nfe": 4, "images_sha256": "", "subject_sha256": ""},
        }
        for name in painted
    ]
    protocol = {
        **{"n": 8, "arrays": {}, "captions_sha256": "", "real_sha256": "", "teacher_sha256": ""},
        **{"teacher": "teacher/steps-50_guidance-3_seeds-1", "level": 0.95, "code_sha256": ""},
        "sha256": f"protocol-{PARAMS['score']['seed']}-{PARAMS['generate']['seed']}",
    }
    table = {
        "protocol": protocol,
        "champion": champion,
        "metrics": [
            metric("fd_shapes:real", "Distance to real pictures", "fd", True, "distance"),
            metric("attributes", "Attributes as asked for", "mean", False, "share"),
        ],
        "cells": cells,
        "rows": [
            {"cell": cell["id"], "metric": name, "value": value, "bias": 0.0, "se": 1.0, "n": 8}
            for cell in cells
            for name, value in measured(painted[cell["painter"]]).items()
        ],
        "pairs": list(pairs(painted)) if champion else [],
    }
    write("artifacts/scores/scores.json", table)


def metric(name, title, kind, lower_is_better, unit):
    return {
        **{"name": name, "title": title, "kind": kind, "array": "", "reference": None},
        **{"lower_is_better": lower_is_better, "is_unbiased": True, "unit": unit},
    }


def measured(weights):
    return {"fd_shapes:real": weights, "attributes": 0.9}


def pairs(painted):
    rival = measured(painted["champion"])
    for name, value in measured(painted["adapter"]).items():
        difference = value - rival[name]
        half = 0.01 if name == "attributes" else 3.0
        low, high = difference - half, difference + half
        surely = "worse" if low > 0 else "better" if high < 0 else "level"
        yield {
            **{"metric": name, "a": "adapter/steps-4_guidance-1", "against": "champion"},
            **{"b": "champion/steps-4_guidance-1", "difference": difference, "se": half / 1.959964},
            **{"low": low, "high": high, "verdict": surely},
        }


def decide():
    from lcm_lora.cli import app

    app(["decide"])


def report():
    if PARAMS["report"]["title"] == "bad":
        sys.stderr.write("Traceback (most recent call last): and so on\n")
        sys.stderr.write("error: report.title is bad; choose another\n")
        sys.stderr.write("and a farewell\n")
        sys.exit(1)
    write("artifacts/report/index.html", PARAMS["report"]["title"])
    write("artifacts/report/grid.png", "a picture")
    # As long as a real one: longer than MLflow's PostgreSQL takes.
    card = "---\ntags: [lora]\n---\n\n# Toy\n" + "How it was made.\n" * 500
    write("artifacts/report/model_card.md", card)


def transfer(subject):
    captions = ["a ring"]
    write(
        f"artifacts/transfer/images/{subject}/adapter/painted.json",
        {"captions": captions, "cells": []},
    )


def transfer_score(subject):
    scores = Path("artifacts/scores/scores.json").read_text()
    table = json.loads(scores.replace("ddim", "teacher"))
    captions = json.dumps(["a ring"])
    table["protocol"]["captions_sha256"] = sha256(captions)
    table["protocol"]["teacher"] = table["cells"][-1]["id"]
    write(f"artifacts/transfer/scores/{subject}/scores.json", table)


def transfer_report():
    write("artifacts/transfer/report/index.html", "a map")


NOTES.mkdir(exist_ok=True)
with (NOTES / "started").open("a") as started:
    started.write(" ".join(sys.argv[1:]) + "\n")
globals()[sys.argv[1]](*sys.argv[2:])
