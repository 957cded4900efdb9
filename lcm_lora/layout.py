"""Where the stages read and write, from the project's folder; dvc.yaml names the same places."""

from pathlib import Path

PARAMS = Path("params.yaml")
INVENTORY = Path("data/inventory")
SHARDS = Path("data/shards")
PREPARED = Path("data/prepared.json")
LEDGERS = Path("data/ledgers")
CHAMPION = Path("data/champion")
EVALUATION = Path("data/evaluation")
SELECTION = Path("data/selection")
CACHE = Path("data/cache")
CANDIDATES = Path("artifacts/candidates")
SELECTED = Path("artifacts/selection/selection.json")
ADAPTER = Path("artifacts/adapter")
TRAINING = Path("artifacts/training")
IMAGES = Path("artifacts/images")
FEATURES = Path("artifacts/features")
SCORES = Path("artifacts/scores/scores.json")
DECISION = Path("artifacts/decision.json")
LATENCY = Path("artifacts/latency.json")
SMOKE = Path("artifacts/smoke")
REPORT = Path("artifacts/report")
TRANSFER = Path("artifacts/transfer")
"""Of the new adapter elsewhere: images, features and scores of each subject, and their page."""
DRIFT = Path("artifacts/drift.json")
CHECKPOINTS = Path(".checkpoints")
"""What a run needs to go on, and nobody else: no DVC output, safe to delete."""
BROUGHT = Path("data/brought")
"""Where the flow leaves the registry's champion for the first look; each checkout has its own."""
MODULES = CHECKPOINTS / "modules"
"""And the registry's styles and fine-tunes that parameters name."""
HASHES = CHECKPOINTS / "hashes.sqlite"
