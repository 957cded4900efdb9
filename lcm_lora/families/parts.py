"""Which files of a diffusers folder loading reads, part by part; nothing else of it counts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lcm_lora.errors import UserError

_STEMS = {
    "unet": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
    "text_encoder": "model",
    "text_encoder_2": "model",
}
"""Parts with weights, and what diffusers and transformers call the file of them."""


@dataclass(frozen=True, slots=True)
class Weights:
    """The weights of a part: their files, and the variant that names them."""

    files: tuple[str, ...]
    variant: str | None


def parts_of(is_xl: bool) -> tuple[str, ...]:
    """Return the parts of a pipeline that have weights."""
    return tuple(part for part in _STEMS if is_xl or not part.endswith("_2"))


def weights_of(folder: Path, part: str, what: str) -> Weights:
    """Return the weights of a part: the plain ones, or the fp16 variant where it is alone.

    Of several files and a single one, diffusers takes the several, transformers the single one.

    Args:
        folder: Of the part alone.
        part: Its name.
        what: What a message calls it.

    Raises:
        UserError: There are none, they are pickled, or some of several files are missing.
    """
    stem = _STEMS[part]
    for variant in (None, "fp16"):
        mark = f".{variant}" if variant else ""
        names = [f"{stem}{mark}.safetensors", f"{stem}.safetensors.index{mark}.json"]
        for name in names if part.startswith("text") else reversed(names):
            if (folder / name).is_file():
                shards = _shards(folder / name, what) if name.endswith(".json") else ()
                return Weights((name, *shards), variant)
    if any(folder.glob("*.bin")):
        raise UserError(f"{what}: its weights are pickled, which is refused; convert them")
    mend = "fetch it, or name an autoencoder as base.vae" if part == "vae" else "fetch it again"
    raise UserError(f"{what}: holds no weights ({stem}.safetensors); {mend}")


def _shards(index: Path, what: str) -> list[str]:
    try:
        names = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UserError(f"{what}: {index.name} is damaged; fetch it again") from None
    if not names:
        raise UserError(f"{what}: {index.name} lists no files; fetch it again")
    for name in names:
        if not isinstance(name, str) or not (index.parent / name).is_file():
            raise UserError(f"{what}: lacks {name}, which {index.name} lists; fetch it again")
    return names


def words_of(is_xl: bool) -> tuple[str, ...]:
    """Return the folders of a pipeline's tokenizers."""
    return ("tokenizer", "tokenizer_2") if is_xl else ("tokenizer",)


def files_of_part(folder: Path, part: str, what: str) -> Iterator[str]:
    """Yield the names of all files of a part with weights."""
    yield "config.json"
    yield from weights_of(folder, part, what).files


def texts_of(folder: Path, words: str) -> Iterator[str]:
    """Yield the names of configuration and vocabulary files of a tokenizer in a base's folder."""
    for path in sorted((folder / words).glob("*")):
        if path.suffix in {".json", ".txt"} and path.is_file():
            yield f"{words}/{path.name}"
