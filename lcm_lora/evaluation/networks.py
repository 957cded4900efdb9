"""The networks that look at pictures: for features, and for the fit of picture and caption.

Networks are local files; nothing here downloads, and every score carries the network's SHA-256.

Legend: B pictures, S pixels of a side that a network takes, D dimensions.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cleanfid.inception_torchscript import InceptionV3W
from cleanfid.resize import make_resizer
from PIL import Image
from torch import Tensor
from transformers import CLIPModel, CLIPTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from lcm_lora.errors import UserError, reason
from lcm_lora.evaluation.names import INCEPTION, check_inception
from lcm_lora.files import sha256
from lcm_lora.shapes.scenes import PIXELS

_INCEPTION_PIXELS = 299
_CAPTIONS_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class FeatureNetwork:
    """A network that turns pictures, float [B, 3, S, S] in 0..255, into features float32 [B, D]."""

    name: str
    sha256: str
    pixels: int
    embed: Callable[[Tensor], Tensor]

    @property
    def preprocessing(self) -> str:
        """What happens to a picture before the network sees it."""
        return f"clean-fid: PIL bicubic to {self.pixels} px in float, clipped to 0..255"


@dataclass(frozen=True, slots=True)
class ClipScorer:
    """A CLIP that embeds pictures and captions, each float32 [B, D], on `device`."""

    name: str
    sha256: str
    model: CLIPModel
    words: CLIPTokenizer
    prepare: Callable[[Sequence[Image.Image]], Tensor]
    device: torch.device

    @torch.inference_mode()
    def pictures(self, pictures: Sequence[Image.Image]) -> Tensor:
        """Return the embeddings of RGB pictures of any size."""
        values = self.prepare(pictures).to(self.device)
        return embed_pictures(self.model, values).cpu()

    @torch.inference_mode()
    def captions(self, captions: Sequence[str]) -> Tensor:
        """Return the embeddings of captions; long ones are cut but keep their end token."""
        longest = self.model.config.text_config.max_position_embeddings
        embeddings = []
        for start in range(0, len(captions), _CAPTIONS_AT_ONCE):
            tokens = self.words(
                list(captions[start : start + _CAPTIONS_AT_ONCE]),
                padding=True,
                truncation=True,
                max_length=min(longest, self.words.model_max_length),
                return_tensors="pt",
            ).to(self.device)
            output = self.model.get_text_features(tokens.input_ids, tokens.attention_mask)
            embeddings.append(output.pooler_output.float().cpu())
        return torch.cat(embeddings)


def load_feature_network(which: str, judges: Path, device: torch.device) -> FeatureNetwork:
    """Load the network that score.features names: `shapes`, or the 2015 Inception file.

    Raises:
        UserError: The file is missing or is another one.
    """
    if which == "shapes":
        model = _load_clip_model(judges / "clip", device)

        def embed(batch: Tensor) -> Tensor:
            return embed_pictures(model, batch / 127.5 - 1)

        return FeatureNetwork("shapes", sha256(judges / "clip"), PIXELS, embed)
    path = Path(which)
    digest = _checked_inception(path)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # torch announces that TorchScript will go; the reference weights exist as nothing else.
        warnings.simplefilter("ignore")
        (Path(folder) / f"{INCEPTION}.pt").symlink_to(path.resolve())
        inception = InceptionV3W(folder, download=False).to(device).eval()
    return FeatureNetwork(INCEPTION, digest, _INCEPTION_PIXELS, inception)


def load_clip_scorer(which: str, judges: Path, device: torch.device) -> ClipScorer:
    """Load the CLIP that score.clip names: `shapes`, or a transformers folder.

    Raises:
        UserError: There is no such folder, or it holds no CLIP in safetensors.
    """
    folder = judges / "clip" if which == "shapes" else Path(which)
    model = _load_clip_model(folder, device)
    try:
        words = CLIPTokenizer.from_pretrained(str(folder), local_files_only=True)
        prepare = to_shapes_input if which == "shapes" else _processor(folder)
    except Exception as error:  # as in `_load_clip_model`
        raise UserError(_not_a_clip(folder, error)) from error
    name = "shapes" if which == "shapes" else folder.resolve().name
    return ClipScorer(name, sha256(folder), model, words, prepare, device)


def embed_pictures(model: CLIPModel, pictures: Tensor) -> Tensor:
    """Return the projected embeddings of prepared pictures, float32 and not normalised."""
    output: Any = model.get_image_features(pictures)
    embeddings: Tensor = output.pooler_output
    return embeddings.float()


def resize(pixels: int) -> Callable[[Any], Any]:
    """Return clean-fid's resize of uint8 [H, W, 3] to float32 [pixels, pixels, 3] in 0..255."""
    resizer: Callable[[Any], Any] = make_resizer("PIL", False, "bicubic", (pixels, pixels))
    return resizer


def to_shapes_input(pictures: Sequence[Image.Image]) -> Tensor:
    """Return pictures as the shapes world's judges take them: float [B, 3, 32, 32] in -1..1."""
    shrink = resize(PIXELS)
    values = np.stack([shrink(np.asarray(picture)) for picture in pictures])
    return torch.from_numpy(values).permute(0, 3, 1, 2) / 127.5 - 1


def _processor(folder: Path) -> Callable[[Sequence[Image.Image]], Tensor]:
    processor = CLIPImageProcessorPil.from_pretrained(str(folder), local_files_only=True)

    def prepare(pictures: Sequence[Image.Image]) -> Tensor:
        values: Tensor = processor(images=list(pictures), return_tensors="pt").pixel_values
        return values

    return prepare


def _load_clip_model(folder: Path, device: torch.device) -> CLIPModel:
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; score needs a CLIP in the transformers layout")
    try:
        model = CLIPModel.from_pretrained(
            str(folder), local_files_only=True, use_safetensors=True, dtype=torch.float32
        )
    except Exception as error:  # there is no end to what parsers raise of a broken file
        raise UserError(_not_a_clip(folder, error)) from error
    return model.to(device).eval().requires_grad_(False)


def _not_a_clip(folder: Path, error: Exception) -> str:
    what = "not a CLIP folder with safetensors, tokenizer and preprocessor"
    return f"{folder}: {what} ({reason(error)}); mend it, or name another in score.clip"


def _checked_inception(path: Path) -> str:
    if not path.is_file():
        raise UserError(
            f"score.features {path}: no such file; name {INCEPTION}.pt, or set it to shapes"
        )
    digest = sha256(path)
    check_inception(str(path), digest)
    return digest
