"""The networks that look at pictures: for features, and for the fit of picture and caption.

Networks are local files; nothing here downloads, and every score carries the network's SHA-256.

Legend: B pictures, H x W pixels, S pixels of a side that a network takes, D dimensions.
"""

from __future__ import annotations

import contextlib
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import (
    CLIPModel,
    CLIPTokenizer,
    CLIPVisionModelWithProjection,
    Dinov2Model,
    PreTrainedModel,
)

from lcm_lora.errors import UserError, is_out_of_memory, reason
from lcm_lora.seeing.exported import load_exported
from lcm_lora.seeing.inception import INCEPTION
from lcm_lora.seeing.network_files import MENDED, NetworkFile
from lcm_lora.seeing.resize import prepare
from lcm_lora.shapes.judge import AttributeJudge, load_judge
from lcm_lora.shapes.looks_judge import LooksJudge, load_looks_judge

Embed = Callable[[Tensor], Tensor]
"""Takes pictures of colours 0..255, [B, 3, H, W], and returns features float32 [B, D]."""

_CAPTIONS_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class ClipScorer:
    """A CLIP that embeds pictures and captions, each float32 [B, D], on `device`."""

    model: CLIPModel
    words: CLIPTokenizer
    pictures: Embed
    device: torch.device

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


def load_feature_network(file: NetworkFile, device: torch.device) -> Embed:
    """Load a network of score.networks.

    Raises:
        UserError: Its files are not what their kind says.
    """
    load = {
        "shapes": _clip_features,
        "clip": _clip_vision,
        "dinov2": _dinov2,
        "inception": _inception,
        "torchscript": _torchscript,
        "export": _exported,
    }[file.kind]
    with _loading(file):
        return _embedding(file, load(file, device), device)


def load_clip_scorer(file: NetworkFile, device: torch.device) -> ClipScorer:
    """Load the CLIP of the CLIP score.

    Raises:
        UserError: The folder holds no whole CLIP.
    """
    with _loading(file):
        model = _whole_clip(file.path, device)
        words = CLIPTokenizer.from_pretrained(str(file.path), local_files_only=True)
        pictures = _embedding(file, lambda values: _pooled_clip(model, values), device)
        return ClipScorer(model, words, pictures, device)


def load_attribute_judge(file: NetworkFile, device: torch.device) -> AttributeJudge:
    """Load the judge of the shapes world.

    Raises:
        UserError: It is damaged.
    """
    with _judging(file):
        return load_judge(file.path.parent).to(device)


def load_judge_of_looks(file: NetworkFile, device: torch.device) -> LooksJudge:
    """Load the judge of the shapes world that knows its looks.

    Raises:
        UserError: It is damaged.
    """
    with _judging(file):
        return load_looks_judge(file.path).to(device)


@contextlib.contextmanager
def _judging(file: NetworkFile) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:  # torch's own where tensors differ
        raise UserError(
            f"{file.path}: cannot be loaded ({reason(error)}); {MENDED[file.kind]}"
        ) from None


def _embedding(file: NetworkFile, network: Embed, device: torch.device) -> Embed:
    """Return a network as a function of pictures of any size, that says when nothing comes of it.

    Args:
        file: Whose preparation it wants.
        network: Takes prepared pictures, float32 [B, 3, S, S].
        device: Of torch.
    """

    @torch.inference_mode()
    def embed(pictures: Tensor) -> Tensor:
        values = prepare(pictures.to(device), file.preparation)
        with _looking(file):
            found: Any = network(values)
        if not isinstance(found, Tensor) or found.ndim != 2 or len(found) != len(pictures):
            shape = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise file.error(f"gives {shape} for {len(pictures)} pictures, not [B, D]")
        found = found.float()
        if not torch.isfinite(found).all():
            raise file.error("gives features that are not finite")
        return found

    return embed


@contextlib.contextmanager
def _loading(file: NetworkFile) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # there is no end to what parsers raise of a broken file
        if is_out_of_memory(error):
            raise
        raise file.error(f"not a network of kind {file.kind} ({reason(error)})") from error


@contextlib.contextmanager
def _looking(file: NetworkFile) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # of whatever program the file is
        if is_out_of_memory(error):
            raise
        side = file.preparation.pixels
        raise file.error(f"fails at pictures of {side} px ({reason(error)})") from error


def _clip_features(file: NetworkFile, device: torch.device) -> Embed:
    model = _whole_clip(file.path, device)
    return lambda values: _pooled_clip(model, values)


def _pooled_clip(model: CLIPModel, values: Tensor) -> Tensor:
    """Return projected embeddings, not normalised."""
    output: Any = model.get_image_features(values)
    pooled: Tensor = output.pooler_output
    return pooled


def _clip_vision(file: NetworkFile, device: torch.device) -> Embed:
    model = _of_folder(CLIPVisionModelWithProjection, file.path, device)
    return lambda values: model(values).image_embeds


def _dinov2(file: NetworkFile, device: torch.device) -> Embed:
    """Return the class token after the last norm, as FD-DINOv2 takes it."""
    model = _of_folder(Dinov2Model, file.path, device)
    return lambda values: model(values).pooler_output


def _inception(file: NetworkFile, device: torch.device) -> Embed:
    """Return the 2015 Inception in clean-fid's wrapper, which takes colours in 0..255."""
    from cleanfid.inception_torchscript import InceptionV3W

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # torch announces that TorchScript will go; the reference weights exist as nothing else.
        warnings.simplefilter("ignore")
        (Path(folder) / f"{INCEPTION}.pt").symlink_to(file.path.resolve())
        inception: Embed = InceptionV3W(folder, download=False).to(device).eval()
    return inception


def _torchscript(file: NetworkFile, device: torch.device) -> Embed:
    """Return a program of TorchScript: torch reads it without unpickling Python's objects.

    A program it is, whose operators may read and write files: the first look's hash is all that
    stands between what the user named and what runs.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as in `_inception`
        network: Embed = torch.jit.load(str(file.path), map_location=device).eval()
    return network


def _exported(file: NetworkFile, device: torch.device) -> Embed:
    return load_exported(file.path, device)


def _whole_clip(folder: Path, device: torch.device) -> CLIPModel:
    return _of_folder(CLIPModel, folder, device)


def _of_folder(kind: Any, folder: Path, device: torch.device) -> Any:
    """Return a model of transformers; weights that are not there would be drawn at random."""
    loaded: tuple[PreTrainedModel, dict[str, Any]] = kind.from_pretrained(
        str(folder),
        local_files_only=True,
        use_safetensors=True,
        dtype=torch.float32,
        output_loading_info=True,
    )
    model, found = loaded
    if lacks := found["missing_keys"]:
        raise ValueError(f"lacks {min(lacks)}")
    network: nn.Module = model.to(device)
    return network.eval().requires_grad_(False)
