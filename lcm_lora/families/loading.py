"""Load a base from a diffusers folder or a single file, each part in the dtype that it needs."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import DiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

from lcm_lora.families.autoencoder import load_vae, variant_of
from lcm_lora.families.family import FAMILIES, Family
from lcm_lora.families.found import BaseInventory, Places
from lcm_lora.families.vocabulary import find_merges


def load_pipeline(found: BaseInventory, places: Places, dtype: torch.dtype) -> Any:
    """Return the pipeline of a base: its denoiser in `dtype`, all else in float32.

    The autoencoder's weights never pass through half precision: SDXL's overflows there.
    """
    own: dict[str, Any] = {"vae": load_vae(places, found.files)}
    family = FAMILIES[found.structure.family]
    if places.model.is_file():
        pipeline = _of_file(family, places, dtype, own)
    else:
        if not family.is_xl:
            own |= {"safety_checker": None, "requires_safety_checker": False}
        pipeline = _of_folder(found, places.model, dtype, own)
    pipeline.scheduler = type(pipeline.scheduler).from_config(
        pipeline.scheduler.config,
        prediction_type=found.structure.prediction_type,
        rescale_betas_zero_snr=found.structure.zero_snr,
    )
    return pipeline


def _of_folder(found: BaseInventory, folder: Path, dtype: torch.dtype, own: dict[str, Any]) -> Any:
    return DiffusionPipeline.from_pretrained(
        str(folder),
        variant=variant_of(found.files, "unet/"),
        dtype={"unet": dtype, "default": torch.float32},
        use_safetensors=True,
        local_files_only=True,
        **own,
    )


def _of_file(family: Family, places: Places, dtype: torch.dtype, own: dict[str, Any]) -> Any:
    pipeline_class = getattr(diffusers, family.pipeline)
    config, path = str(places.configs), str(places.model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        unet = UNet2DConditionModel.from_single_file(
            path, config=config, subfolder="unet", dtype=dtype, local_files_only=True
        )
        return pipeline_class.from_single_file(
            path,
            config=config,
            dtype=torch.float32,
            local_files_only=True,
            unet=unet,
            **tokenizers(family, places.tokenizer),
            **own,
        )


def tokenizers(family: Family, folder: Path | None) -> dict[str, CLIPTokenizer]:
    """Return the tokenizers of a single file's pipeline.

    All families read one vocabulary; OpenCLIP's encoders were trained with `!`, id 0, as padding,
    OpenAI's with the end mark.
    """
    padding = {"tokenizer": "!" if family.name == "sd2" else "<|endoftext|>"}
    if family.is_xl:
        padding["tokenizer_2"] = "!"
    if folder is None:
        return {name: clip_tokenizer(find_merges(), pad) for name, pad in padding.items()}
    return {name: _tokenizer(folder, name, pad) for name, pad in padding.items()}


def _tokenizer(folder: Path, name: str, pad: str) -> CLIPTokenizer:
    if (folder / name).is_dir():
        return CLIPTokenizer.from_pretrained(str(folder / name))
    return CLIPTokenizer.from_pretrained(str(folder / "tokenizer"), pad_token=pad)


def clip_tokenizer(merges: list[str], pad_token: str) -> CLIPTokenizer:
    """Return CLIP's tokenizer from its byte pairs, which alone decide the vocabulary.

    Ids are the bytes alone, the bytes that end a word, the merged pairs in their order, and the
    marks of start and end (Radford et al. 2021, and OpenAI's code).
    """
    letters = list(bytes_to_unicode().values())
    pieces = [*letters, *(f"{letter}</w>" for letter in letters)]
    pieces += ["".join(pair.split()) for pair in merges]
    pieces += ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(
        vocab={piece: number for number, piece in enumerate(pieces)},
        merges=[tuple(pair.split()) for pair in merges],
        pad_token=pad_token,
        model_max_length=77,
    )
