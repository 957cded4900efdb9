"""Where the stages read and write, from the project's folder; dvc.yaml names the same places."""

from pathlib import Path

PARAMS = Path("params.yaml")
SHARDS = Path("data/shards")
CACHE = Path("data/cache")
ADAPTER = Path("artifacts/adapter")
TRAINING = Path("artifacts/training")
IMAGES = Path("artifacts/images")
FEATURES = Path("artifacts/features")
SCORES = Path("artifacts/scores/scores.json")
REPORT = Path("artifacts/report")
CHECKPOINTS = Path(".checkpoints")
