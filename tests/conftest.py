"""What several rooms' tests share: a small project on the shapes world, encoded once."""

import signal
from pathlib import Path

import pytest
import torch

from lcm_lora.bases import Base, load_base
from lcm_lora.data.encode import encode
from lcm_lora.data.prepare import prepare
from lcm_lora.params import Base as BaseParams
from lcm_lora.params import Encode, Hardware, Prepare, ShapesSource

torch.set_num_threads(1)

CPU = Hardware(device="cpu", precision="fp32", threads=1)


def pytest_configure() -> None:
    """Let Ctrl-C reach what tests start, though a background job would ignore it for them."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def base() -> Base:
    """The shapes base, fresh: what a test attaches to it is gone with the test."""
    return load_base(BaseParams(), CPU)


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of ninety scenes, a third of them held out."""
    out = tmp_path_factory.mktemp("shards") / "shards"
    source = ShapesSource(count=90, seed=5)
    prepare(Prepare(source=source, held_out=0.33, shard_samples=25), out)
    return out


@pytest.fixture(scope="session")
def cache(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache of `shards`."""
    out = tmp_path_factory.mktemp("cache") / "cache"
    encode(Encode(batch=32), load_base(BaseParams(), CPU), shards, out)
    return out
