"""Load a base from a diffusers folder or a single file, each part in the dtype that it needs."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

from lcm_lora.families.autoencoder import load_vae
from lcm_lora.families.family import FAMILIES, Family
from lcm_lora.families.found import BaseFiles, BaseInventory
from lcm_lora.families.parts import weights_of
from lcm_lora.families.vocabulary import find_merges


def load_pipeline(found: BaseInventory, files: BaseFiles, dtype: torch.dtype) -> Any:
    """Return the pipeline of a base: its denoiser in `dtype`, all else in float32.

    The autoencoder's weights never pass through half precision: SDXL's overflows there.
    """
    family, vae = FAMILIES[found.structure.family], load_vae(files)
    of = _of_file if files.model.is_file() else _of_folder
    pipeline = of(family, files, dtype, vae)
    # Here it only tells the schedule; DDIM's keeps all of it, some others drop a rescaled one.
    pipeline.scheduler = DDIMScheduler.from_config(
        pipeline.scheduler.config,
        prediction_type=found.structure.prediction_type,
        rescale_betas_zero_snr=found.structure.zero_snr,
    )
    return pipeline


def _of_folder(family: Family, files: BaseFiles, dtype: torch.dtype, vae: Any) -> Any:
    """Load part by part: a folder may hold one in the fp16 variant alone, and another plain."""
    unet = UNet2DConditionModel.from_pretrained(**_stored(files.model, "unet"), dtype=dtype)
    texts: dict[str, Any] = {"text_encoder": CLIPTextModel}
    if family.is_xl:
        texts["text_encoder_2"] = CLIPTextModelWithProjection
    encoders = {
        part: text.from_pretrained(**_stored(files.model, part), dtype=torch.float32)
        for part, text in texts.items()
    }
    unread: dict[str, Any] = {"feature_extractor": None}
    if not family.is_xl:
        unread |= {"safety_checker": None, "requires_safety_checker": False}
    return getattr(diffusers, family.pipeline).from_pretrained(
        str(files.model), unet=unet, vae=vae, local_files_only=True, **encoders, **unread
    )


def _stored(folder: Path, part: str) -> dict[str, Any]:
    """Return how the weights of a part are named to its class."""
    return {
        "pretrained_model_name_or_path": str(folder / part),
        "variant": weights_of(folder / part, part, part).variant,
        "use_safetensors": True,
        "local_files_only": True,
    }


def _of_file(family: Family, files: BaseFiles, dtype: torch.dtype, vae: Any) -> Any:
    pipeline_class = getattr(diffusers, family.pipeline)
    config, path = str(files.configs), str(files.model)
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
            vae=vae,
            **tokenizers(family, files.tokenizer),
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
