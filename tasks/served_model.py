"""The registered model: prompts in, pictures out. MLflow stores this very file with each version.

It imports nothing of this project, so that a version loads wherever torch and diffusers are. The
base is not inside, unless it is small: it is found by the reference in the adapter's recipe, and
checked file by file.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import os
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import torch
from diffusers import (
    AutoencoderKL,
    LCMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from diffusers.utils import logging
from huggingface_hub import snapshot_download
from mlflow.pyfunc import PythonModel, PythonModelContext
from transformers import CLIPTextModel, CLIPTextModelWithProjection

_MOST_STEPS = 8
_WEIGHTS = "pytorch_lora_weights.safetensors"
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_PLACES = {"base": "LCM_LORA_BASE", "vae": "LCM_LORA_VAE"}
"""Keys of the model's configuration, and environment variables, that name where a part lies."""


class FewStepPictures(PythonModel):
    """A Stable Diffusion with its LCM-LoRA and the scheduler that the adapter was distilled for."""

    def load_context(self, context: PythonModelContext) -> None:
        """Build the pipeline, in the precision that was scored; on a CPU everything is float32.

        Raises:
            FileNotFoundError: The base is not here.
            ValueError: What is here is not the base that the adapter was distilled from.
        """
        logging.disable_progress_bar()
        adapter = Path(context.artifacts["adapter"])
        recipe = json.loads((adapter / "recipe.json").read_text())
        device = "cuda" if torch.cuda.is_available() else "cpu"
        precision = recipe["hardware"].get("precision", "fp32") if device == "cuda" else "fp32"
        pipeline = _pipeline(context, recipe["base"], _DTYPES[precision])
        pipeline.scheduler = LCMScheduler.from_config(recipe["scheduler"]["config"])
        pipeline.set_progress_bar_config(disable=True)
        pipeline.to(device)
        compute_in(pipeline.unet, _DTYPES[precision])
        pipeline.load_lora_weights(str(adapter), weight_name=_WEIGHTS)
        self._pipeline = pipeline

    def predict(
        self,
        context: PythonModelContext,
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Return one PNG a prompt.

        Args:
            context: Unused; MLflow passes it.
            model_input: Column `prompt`.
            params: `num_inference_steps` (1 to 8), `seed`, `guidance_scale`; MLflow fills in the
                defaults of the signature.

        Returns:
            Column `image`: base64 of a PNG. Equal prompt, steps, guidance and seed give an equal
            picture, whatever else is asked for in the same call.
        """
        asked = params or {}
        steps = int(asked.get("num_inference_steps", 4))
        if not 1 <= steps <= _MOST_STEPS:
            raise ValueError(f"num_inference_steps is {steps}; this model samples in 1 to 8 steps")
        prompts = [str(prompt).strip() for prompt in model_input["prompt"]]
        if not all(prompts):
            raise ValueError(
                f"prompt {prompts.index('') + 1} of {len(prompts)} is empty; say what to draw"
            )
        seed, guidance = int(asked.get("seed", 0)), float(asked.get("guidance_scale", 1.0))
        return pd.DataFrame({"image": [self._draw(p, steps, guidance, seed) for p in prompts]})

    def _draw(self, prompt: str, steps: int, guidance: float, seed: int) -> str:
        picture = self._pipeline(
            prompt,
            num_inference_steps=steps,
            guidance_scale=guidance,
            # On the CPU, so that a seed means the same noise on every machine.
            generator=torch.Generator("cpu").manual_seed(seed),
        ).images[0]
        png = io.BytesIO()
        picture.save(png, "PNG")
        return base64.b64encode(png.getvalue()).decode("ascii")


def _pipeline(context: PythonModelContext, base: dict[str, Any], dtype: torch.dtype) -> Any:
    """Return the base's pipeline: its denoiser in `dtype`, all else in float32."""
    other_vae = base.get("vae") is not None
    # The files of another autoencoder stand under vae/, those of a configuration under config/.
    skipped = ("config/", "vae/") if other_vae else ("config/",)
    files = {name: sha for name, sha in base["files"].items() if not name.startswith(skipped)}
    path = _found(context, "base", base["model"], base["revision"], files)
    config = context.artifacts.get("config")
    own = {}
    if other_vae:
        names = [name for name in base["files"] if name.startswith("vae/")]
        files_of_vae = {name.removeprefix("vae/"): base["files"][name] for name in names}
        # A hub id may have named its revision, as in `owner/name@revision`.
        name = base["vae"].partition("@")[0] if base["vae_revision"] else base["vae"]
        vae = _found(context, "vae", name, base["vae_revision"], files_of_vae)
        own["vae"] = _autoencoder(vae, list(files_of_vae), config or str(path))
    is_xl = base["family"] in ("sdxl", "ssd1b")
    if path.is_file():
        if config is None:
            raise FileNotFoundError(
                f"base {path}: is a single file, and this version carries no configuration for it;"
                " register the adapter again where its base is"
            )
        return _of_file(path, config, is_xl, dtype, own)
    return _of_folder(path, files, is_xl, dtype, own)


def _of_folder(
    folder: Path, files: dict[str, str], is_xl: bool, dtype: torch.dtype, own: dict[str, Any]
) -> Any:
    """Load part by part: a folder may hold one in the fp16 variant alone, and another plain."""

    def stored(part: str) -> dict[str, Any]:
        return _stored(folder / part, [name for name in files if name.startswith(f"{part}/")])

    # The dtype of each: transformers loads what is stored, which may be half.
    parts: dict[str, Any] = {
        "unet": UNet2DConditionModel.from_pretrained(**stored("unet"), dtype=dtype),
        "text_encoder": CLIPTextModel.from_pretrained(
            **stored("text_encoder"), dtype=torch.float32
        ),
        "feature_extractor": None,
    }
    if "vae" not in own:
        parts["vae"] = AutoencoderKL.from_pretrained(**stored("vae"), dtype=torch.float32)
    if is_xl:
        parts["text_encoder_2"] = CLIPTextModelWithProjection.from_pretrained(
            **stored("text_encoder_2"), dtype=torch.float32
        )
    else:
        parts |= {"safety_checker": None, "requires_safety_checker": False}
    kind = StableDiffusionXLPipeline if is_xl else StableDiffusionPipeline
    return kind.from_pretrained(str(folder), local_files_only=True, **parts, **own)


def _stored(folder: Path, names: list[str]) -> dict[str, Any]:
    """Return how a part's weights, of which these files were scored, are named to its class."""
    return {
        "pretrained_model_name_or_path": str(folder),
        "variant": "fp16" if any(".fp16" in name for name in names) else None,
        "use_safetensors": True,
        "local_files_only": True,
    }


def _of_file(path: Path, config: str, is_xl: bool, dtype: torch.dtype, own: dict[str, Any]) -> Any:
    kind = StableDiffusionXLPipeline if is_xl else StableDiffusionPipeline
    common = {"config": config, "local_files_only": True}
    unet = UNet2DConditionModel.from_single_file(str(path), subfolder="unet", dtype=dtype, **common)
    return kind.from_single_file(str(path), unet=unet, dtype=torch.float32, **common, **own)


def _autoencoder(path: Path, names: list[str], config: str) -> Any:
    if path.is_dir():
        return AutoencoderKL.from_pretrained(**_stored(path, names), dtype=torch.float32)
    return AutoencoderKL.from_single_file(
        str(path), config=config, subfolder="vae", dtype=torch.float32, local_files_only=True
    )


def _found(
    context: PythonModelContext, part: str, name: str, revision: str | None, files: dict[str, str]
) -> Path:
    """Return where the files of the base, or of its autoencoder, lie; each is as it was scored."""
    chosen = (context.model_config or {}).get(part) or os.environ.get(_PLACES[part])
    if stored := context.artifacts.get(part):
        path = Path(stored)
    elif chosen:
        path = Path(chosen)
    elif revision is None:
        path = Path(name)
    else:
        path = _from_hub(part, name, revision, files)
    if not path.exists():
        raise FileNotFoundError(f"{part} {path}: no such file or folder; {_mend(part, name)}")
    if path.is_dir() and len(files) == 1:  # the folder of a single file
        path = path / next(iter(files))
    return _checked(part, path, files)


def _from_hub(part: str, name: str, revision: str, files: dict[str, str]) -> Path:
    """Return the files of a commit on the hub: from the cache, or downloaded."""
    with contextlib.suppress(Exception):  # not there, which has many names
        folder = Path(snapshot_download(name, revision=revision, local_files_only=True))
        if all((folder / file).is_file() for file in files):
            return folder
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(files)))
    except Exception as error:
        raise FileNotFoundError(
            f"{part} {name} at {revision}: not in the hub cache, and the hub does not give it"
            f" ({type(error).__name__}); {_mend(part, name)}"
        ) from error


def _checked(part: str, path: Path, files: dict[str, str]) -> Path:
    wrong = []
    for name, sha256 in sorted(files.items()):
        file = path if path.is_file() and len(files) == 1 else path / name
        if not file.is_file():
            wrong.append(f"{name} is missing")
        elif _sha256(file) != sha256:
            wrong.append(f"{name} is another")
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ValueError(
            f"{part} {path}: not what this adapter was distilled from ({', '.join(wrong[:3])}"
            f"{more}); {_mend(part, path.name)}"
        )
    return path


def _mend(part: str, name: str) -> str:
    return (
        f"name {name} where it lies on this machine, by model_config={{'{part}': PATH}} of"
        f" mlflow.pyfunc.load_model or by {_PLACES[part]}"
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def compute_in(unet: torch.nn.Module, dtype: torch.dtype) -> None:
    """Make a UNet of diffusers, whose weights are `dtype`, take and give float32.

    As `lcm_lora.precision` does for scoring; a test holds the two together.
    """
    if dtype == torch.float32:
        return

    def lower(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        kwargs = dict(kwargs)
        for name in {"sample", "encoder_hidden_states"} & kwargs.keys():
            kwargs[name] = kwargs[name].to(dtype)
        if added := kwargs.get("added_cond_kwargs"):  # sizes stay as they are
            kwargs["added_cond_kwargs"] = added | {"text_embeds": added["text_embeds"].to(dtype)}
        return tuple(arg.to(dtype) if n == 0 else arg for n, arg in enumerate(args)), kwargs

    def raise_(module: Any, args: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return (output[0].float(), *output[1:])
        output.sample = output.sample.float()
        return output

    unet.register_forward_pre_hook(lower, with_kwargs=True)
    unet.register_forward_hook(raise_)


mlflow.models.set_model(FewStepPictures())
