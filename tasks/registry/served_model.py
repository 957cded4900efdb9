"""The registered model: prompts in, pictures out. MLflow stores this very file with each version.

It imports nothing of this project, so that a version loads wherever torch and diffusers are; those
who only register one wait for neither diffusers nor transformers, which take seconds. The
base is not inside, unless it is small: it is found by the reference in the adapter's recipe, and
checked file by file. Styles are not inside either: who loads the model says which it has, and a
request chooses among those.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import math
import os
import re
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import mlflow
import pandas as pd
import torch
from huggingface_hub import snapshot_download
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import INVALID_PARAMETER_VALUE, MlflowException
from mlflow.pyfunc import PythonModel, PythonModelContext
from safetensors.torch import load_file

_MOST_STEPS = 8
_WEIGHTS = "pytorch_lora_weights.safetensors"
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_PLACES = {"base": "LCM_LORA_BASE", "vae": "LCM_LORA_VAE"}
"""Keys of the model's configuration, and environment variables, that name where a part lies."""
_ALLOWED = "LCM_LORA_STYLES"
"""The same of styles: JSON, where each lies by its name."""
_STYLE_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
_PEFT_WEIGHTS = "adapter_model.safetensors"
_DOWN = re.compile(r"(lora_A(\.[\w-]+)?|[._]down)\.weight$")
"""The first factor of a module, which PEFT makes up where a style has none."""
_ACCELERATION = "acceleration"
_LARGEST_WEIGHT = 2.0
"""Of an adapter, either way, in a service; parameters and `lcm-lora image` go on, to 10."""
_LARGEST_GUIDANCE = 100.0
_LONGEST_PROMPT = 2000
"""Characters; CLIP reads 77 tokens of it."""
_MOST_PROMPTS, _MOST_PIXELS, _BATCH = (
    "LCM_LORA_MOST_PROMPTS",
    "LCM_LORA_MOST_PIXELS",
    "LCM_LORA_BATCH",
)
"""Variables with limits of a service: prompts in a request, pixels of a picture, and how many
pictures are painted at a time."""
_PROMPTS = 16
"""In a request, where no variable says otherwise."""
_PICTURES_AT_A_TIME = {"cpu": 1, "cuda": 4}


class FewStepPictures(PythonModel):
    """A Stable Diffusion with its LCM-LoRA and the scheduler that the adapter was distilled for."""

    def load_context(self, context: PythonModelContext) -> None:
        """Build the pipeline, in the precision that was scored; on a CPU everything is float32.

        Raises:
            FileNotFoundError: The base, or a style, is not here.
            ValueError: What is here is not the base that the adapter was distilled from, or no
                style for it.
        """
        from diffusers.utils import logging

        logging.disable_progress_bar()
        adapter = Path(context.artifacts["adapter"])
        recipe = json.loads((adapter / "recipe.json").read_text())
        with tempfile.TemporaryDirectory() as folder:
            styles = _styles(context.model_config or {}, Path(folder))
            pipeline = _dressed(context, adapter, recipe)
            for name, style in styles.items():
                _put_on(pipeline, name, style, recipe["base"]["family"])
        self._styles = list(styles)
        self._pipeline = pipeline
        self._limits = _limits(pipeline)
        # Servers predict in several threads, and which adapters act is said to the pipeline itself.
        self._alone = threading.Lock()

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
            params: `num_inference_steps` (1 to 8), `seed`, `guidance_scale`; `width` and `height`
                in pixels, 0 for the base's own; `styles`, such as `ink:0.8, grain`, of those that
                the model was loaded with; `acceleration`, the weight of the LCM-LoRA; weights are
                in -2..2, and 1 where a style names none; `negative_prompt`, with a guidance above
                1. MLflow fills in the defaults of the signature.

        Returns:
            Column `image`: base64 of a PNG. Equal prompt and params give an equal picture, whatever
            else is asked for in the same call, or was before; where several are painted at a time,
            as on a GPU, equal to rounding.

        Raises:
            RefusedError: The request asks for what there is not.
        """
        wish = _wish(params or {}, self._styles, self._limits)
        prompts = _prompts(model_input["prompt"], self._limits.prompts)
        with self._alone:
            self._pipeline.set_adapters(list(wish.weights), list(wish.weights.values()))
            drawn = [self._draw(part, wish) for part in _batched(prompts, self._limits.batch)]
        return pd.DataFrame({"image": [png for pictures in drawn for png in pictures]})

    def _draw(self, prompts: Sequence[str], wish: _Wish) -> list[str]:
        pictures = self._pipeline(
            list(prompts),
            negative_prompt=wish.negative and [wish.negative] * len(prompts),
            num_inference_steps=wish.steps,
            guidance_scale=wish.guidance,
            width=wish.width,
            height=wish.height,
            # On the CPU, so that a seed means the same noise on every machine.
            generator=[torch.Generator("cpu").manual_seed(wish.seed) for _ in prompts],
        ).images
        return [_png(picture) for picture in pictures]


def _batched(prompts: Sequence[str], count: int) -> Iterator[Sequence[str]]:
    """Yield the prompts, so many at a time."""
    for start in range(0, len(prompts), count):
        yield prompts[start : start + count]


def _png(picture: Any) -> str:
    png = io.BytesIO()
    picture.save(png, "PNG")
    return base64.b64encode(png.getvalue()).decode("ascii")


class RefusedError(MlflowException, ValueError):
    """A request for what there is not: servers answer with its line, to others with a traceback."""

    def __init__(self, message: str) -> None:
        """Say in one line what is wrong, and what may be asked."""
        MlflowException.__init__(self, message, INVALID_PARAMETER_VALUE)


class _Wish(NamedTuple):
    """What a request asks for, the prompts aside."""

    steps: int
    seed: int
    guidance: float
    negative: str | None
    width: int
    height: int
    weights: dict[str, float]
    """Of the adapters, by their names in the pipeline."""


class _Limits(NamedTuple):
    """What a service grants a request, and what pictures of the base are like."""

    prompts: int
    pixels: int
    """Of a picture."""
    side: int
    """The base's own."""
    unit: int
    """Sides are multiples of it, as the autoencoder makes them."""
    batch: int
    """Pictures at a time."""


def _limits(pipeline: Any) -> _Limits:
    """Return the limits that the environment sets, or else the usual ones.

    Raises:
        ValueError: A variable is no whole number above 0.
    """
    unit = pipeline.vae_scale_factor
    side = pipeline.unet.config.sample_size * unit
    return _Limits(
        prompts=_whole(_MOST_PROMPTS, _PROMPTS),
        pixels=_whole(_MOST_PIXELS, side * side),
        side=side,
        unit=unit,
        batch=_whole(_BATCH, _PICTURES_AT_A_TIME[pipeline.device.type]),
    )


def _whole(variable: str, usual: int) -> int:
    text = os.environ.get(variable) or str(usual)
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise ValueError(f"{variable}: {text[:60]!r} is no whole number above 0")
    return int(text)


def _prompts(column: Iterable[Any], most: int) -> list[str]:
    """Return the prompts of a request."""
    prompts = [str(prompt).strip() for prompt in column]
    if len(prompts) > most:
        raise RefusedError(f"{len(prompts)} prompts in one request; this service takes {most}")
    for number, prompt in enumerate(prompts, 1):
        which = f"prompt {number} of {len(prompts)}"
        if not prompt:
            raise RefusedError(f"{which} is empty; say what to draw")
        if len(prompt) > _LONGEST_PROMPT:
            raise RefusedError(
                f"{which} has more than {_LONGEST_PROMPT} characters; say it shorter"
            )
    return prompts


def _wish(asked: Mapping[str, Any], styles: list[str], limits: _Limits) -> _Wish:
    """Return what a request asks for; `styles` are the names of those that it may."""
    steps = int(asked.get("num_inference_steps", 4))
    if not 1 <= steps <= _MOST_STEPS:
        raise RefusedError(f"num_inference_steps is {steps}; this model samples in 1 to 8 steps")
    guidance = _number("guidance_scale", asked.get("guidance_scale", 1.0), 0, _LARGEST_GUIDANCE)
    negative = _negative(str(asked.get("negative_prompt", "")).strip(), guidance)
    acceleration = _weight(_ACCELERATION, asked.get(_ACCELERATION, 1.0))
    chosen = _chosen(str(asked.get("styles", "")), styles)
    # In the order of the configuration, so that a mix is the same however it is written.
    weights = {_adapter_name(name): chosen[name] for name in styles if chosen.get(name)}
    width, height = (_side(name, asked, limits) for name in ("width", "height"))
    if width * height > limits.pixels:
        raise RefusedError(
            f"{width} x {height} pixels: this service paints at most {limits.pixels} a picture"
        )
    return _Wish(
        steps=steps,
        seed=int(asked.get("seed", 0)),
        guidance=guidance,
        negative=negative,
        width=width,
        height=height,
        weights={_ACCELERATION: acceleration} | weights,
    )


def _side(name: str, asked: Mapping[str, Any], limits: _Limits) -> int:
    side = int(asked.get(name) or limits.side)
    if side < limits.unit or side % limits.unit:
        raise RefusedError(
            f"{name} is {side}; take a multiple of {limits.unit}, or 0 for {limits.side}"
        )
    return side


def _negative(prompt: str, guidance: float) -> str | None:
    if prompt and guidance <= 1:
        raise RefusedError(
            f"negative_prompt acts only where guidance_scale is above 1, and that is {guidance:g};"
            " raise it, to 1.5 say, or leave the negative prompt out"
        )
    return prompt or None


def _chosen(text: str, styles: list[str]) -> dict[str, float]:
    """Return the weights of the styles that a text such as `ink:0.8, grain` names."""
    chosen: dict[str, float] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        name, colon, weight = (piece.strip() for piece in part.partition(":"))
        if name not in styles:
            known = (
                f"choose of {', '.join(styles)}" if styles else "this model was loaded with none"
            )
            raise RefusedError(f"styles: {name[:60]!r} is not allowed here; {known}")
        if name in chosen:
            raise RefusedError(f"styles: {name} is named twice; name it once, with one weight")
        chosen[name] = _weight(f"style {name}", weight if colon else 1.0)
    return chosen


def _weight(what: str, value: Any) -> float:
    return _number(what, value, -_LARGEST_WEIGHT, _LARGEST_WEIGHT)


def _number(what: str, value: Any, low: float, high: float) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not low <= number <= high:  # NaN is not
        raise RefusedError(f"{what} is {str(value)[:60]!r}; take a number from {low:g} to {high:g}")
    return number


def _adapter_name(style: str) -> str:
    """Return the name of a style in the pipeline, where it is apart from all others."""
    return f"style_{style}"


def _dressed(context: PythonModelContext, adapter: Path, recipe: dict[str, Any]) -> Any:
    """Return the pipeline of the adapter's base, and the adapter on it."""
    from diffusers import LCMScheduler

    device = "cuda" if torch.cuda.is_available() else "cpu"
    precision = recipe["hardware"].get("precision", "fp32") if device == "cuda" else "fp32"
    pipeline = _pipeline(context, recipe["base"], _DTYPES[precision])
    pipeline.scheduler = LCMScheduler.from_config(recipe["scheduler"]["config"])
    pipeline.set_progress_bar_config(disable=True)
    pipeline.to(device)
    compute_in(pipeline.unet, _DTYPES[precision])
    pipeline.load_lora_weights(str(adapter), weight_name=_WEIGHTS, adapter_name=_ACCELERATION)
    return pipeline


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


class _Style(NamedTuple):
    """A style's file, and how many numbers of it act."""

    file: Path
    size: int


def _styles(config: Mapping[str, Any], folder: Path) -> dict[str, _Style]:
    """Return the styles that requests may name, each looked at as far as its file alone tells.

    Raises:
        FileNotFoundError: One is not there.
        ValueError: One is pickled, damaged, no LoRA, or such that diffusers reads it otherwise.
    """
    found = {}
    for name, place in _allowed_styles(config).items():
        file = _style_file(f"style {name}", place, folder / name)
        found[name] = _Style(file, _size_of_style(f"style {name}: {place}", file))
    return found


def _allowed_styles(config: Mapping[str, Any]) -> dict[str, str]:
    """Return where each style lies that requests may name: as the configuration says, by name."""
    styles = config.get("styles")
    if styles is None:
        styles = _read_styles(os.environ.get(_ALLOWED) or "{}")
    where = f"styles, of model_config or {_ALLOWED}"
    if not isinstance(styles, dict) or not all(isinstance(p, str) for p in styles.values()):
        raise ValueError(f"{where}: names no files; write {{'ink': PATH}}")
    for name in styles:
        if not _STYLE_NAME.fullmatch(name):
            raise ValueError(f"{where}: {name!r} is no name; take small letters, digits and -")
    return styles


def _read_styles(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise ValueError(
            f'{_ALLOWED}: is no JSON; write {{"ink": "PATH"}}, such as {{"ink": "ink.safetensors"}}'
        ) from None


def _style_file(where: str, place: str, folder: Path) -> Path:
    """Return the file of a style; one of the registry is fetched to `folder`."""
    if place.startswith("models:/"):
        return _from_registry(where, place, folder)
    path = Path(place)
    if not path.exists():
        raise FileNotFoundError(f"{where}: {place}: no such file or folder; name where it lies")
    return _file_in(where, path) if path.is_dir() else path


def _file_in(where: str, folder: Path) -> Path:
    """Return the one file of a folder that is meant."""
    if (folder / _WEIGHTS).is_file():
        return folder / _WEIGHTS
    found = sorted(folder.glob("*.safetensors"))
    if len(found) != 1:
        raise FileNotFoundError(
            f"{where}: {folder}: holds {len(found)} safetensors files and no {_WEIGHTS}; name the "
            "file"
        )
    return found[0]


def _from_registry(where: str, place: str, folder: Path) -> Path:
    """Return the weights of `models:/NAME@ALIAS` or `models:/NAME/VERSION`, fetched and checked."""
    try:
        version = _version(place.removeprefix("models:/"))
    except Exception as error:  # whatever the registry raises
        raise FileNotFoundError(f"{where}: {place}: not to be had ({_short(error)})") from None
    if version.tags.get("kind") != "style":
        raise ValueError(f"{where}: {place}: is no style; publish one, or name another")
    source = f"models:/{version.name}/{version.version}/{_WEIGHTS}"
    folder.mkdir()
    try:
        file = Path(mlflow.artifacts.download_artifacts(source, dst_path=str(folder)))
    except Exception as error:  # whatever the store of artifacts raises
        raise FileNotFoundError(f"{where}: {place}: not to be had ({_short(error)})") from None
    if _sha256(file) != version.tags.get("sha256"):
        raise ValueError(
            f"{where}: {place}: not as it was published; delete that version, publish again"
        )
    return file


def _version(model: str) -> ModelVersion:
    """Return the version that `NAME@ALIAS` or `NAME/VERSION` means now."""
    client, (name, at, alias) = mlflow.MlflowClient(), model.partition("@")
    if at:
        return client.get_model_version_by_alias(name, alias)
    name, _, number = model.partition("/")
    return client.get_model_version(name, number)


def _size_of_style(where: str, file: Path) -> int:
    """Return how many numbers of a style's file act, after looking at each."""
    tensors = _tensors_of_style(where, file)
    parts = {key: value for key, value in tensors.items() if not key.endswith(".alpha")}
    if not any("lora" in key for key in parts):
        raise ValueError(f"{where}: holds no LoRA; name the file of one")
    for key, value in tensors.items():
        if not torch.isfinite(value).all():
            raise ValueError(f"{where}: {key} holds NaN or infinity; fetch it again")
    if _has_several_alphas(tensors):
        raise ValueError(
            f"{where}: alphas differ by module, and diffusers would take one for all; "
            f"`lcm-lora combine OUT {file.name}` mends it"
        )
    return _acting(parts)


def _tensors_of_style(where: str, file: Path) -> dict[str, torch.Tensor]:
    if file.suffix != ".safetensors":
        raise ValueError(f"{where}: only safetensors are read, pickles never; convert it")
    if file.name == _PEFT_WEIGHTS:
        raise ValueError(
            f"{where}: is PEFT's, which pipelines do not load; convert it by `lcm-lora combine`"
        )
    try:
        return load_file(str(file))
    except Exception as error:  # safetensors has several kinds
        raise ValueError(f"{where}: no safetensors file ({type(error).__name__})") from None


def _has_several_alphas(tensors: Mapping[str, torch.Tensor]) -> bool:
    """Tell whether alphas differ within a network; a module that has none has its rank."""
    found: dict[str, set[tuple[float, ...]]] = {}
    for key, down in tensors.items():
        module, is_down, _ = key.partition(".lora_down.weight")
        if is_down:
            alpha = tensors.get(f"{module}.alpha", torch.tensor(down.shape[0]))
            network = module.removeprefix("lora_").partition("_")[0]
            found.setdefault(network, set()).add(tuple(alpha.flatten().tolist()))
    has_any = any(key.endswith(".alpha") for key in tensors)
    return has_any and any(len(alphas) > 1 for alphas in found.values())


def _acting(parts: Mapping[str, torch.Tensor]) -> int:
    """Return how many numbers there are, first factors and what is zero aside.

    PEFT wraps more modules than a file names, and what it makes up for those does nothing.
    """
    return sum(
        value.numel() for key, value in parts.items() if not _DOWN.search(key) and value.any()
    )


def _put_on(pipeline: Any, name: str, style: _Style, family: str) -> None:
    """Load a style beside what the pipeline has.

    Raises:
        ValueError: Not all of it has a place there, as when it is for another family.
    """
    try:
        pipeline.load_lora_weights(
            str(style.file.parent),
            weight_name=style.file.name,
            adapter_name=_adapter_name(name),
            use_safetensors=True,
        )
        landed = _size_on(pipeline, _adapter_name(name))
        misfit = f"{landed} of {style.size} numbers have a place in it"
    except Exception as error:  # of keys, shapes, formats: no end to what loaders raise
        landed, misfit = -1, _short(error)
    if landed != style.size:
        raise ValueError(
            f"style {name}: {style.file.name} does not fit {family} ({misfit}); name a style for "
            f"{family}"
        )


def _size_on(pipeline: Any, adapter: str) -> int:
    """Return how many numbers of an adapter act in the pipeline's networks."""
    networks = (getattr(pipeline, part, None) for part in pipeline._lora_loadable_modules)
    return sum(
        _acting({key: value for key, value in network.named_parameters() if f".{adapter}." in key})
        for network in networks
        if network is not None
    )


def _short(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:160]


def _pipeline(context: PythonModelContext, base: dict[str, Any], dtype: torch.dtype) -> Any:
    """Return the base's pipeline: its denoiser in `dtype`, all else in float32."""
    other_vae = base.get("vae") is not None
    # The files of another autoencoder stand under vae/, those of a configuration under config/.
    skipped = ("config/", "vae/") if other_vae else ("config/",)
    files = {name: sha for name, sha in base["files"].items() if not name.startswith(skipped)}
    path = _found(context, "base", base["model"], base["revision"], files)
    config = context.artifacts.get("config")
    own = {"vae": _other_vae(context, base, config or str(path))} if other_vae else {}
    is_xl = base["family"] in ("sdxl", "ssd1b")
    if path.is_dir():
        return _of_folder(path, files, is_xl, dtype, own)
    if config is None:
        raise FileNotFoundError(
            f"base {path}: is a single file, and this version carries no configuration for it;"
            " register the adapter again where its base is"
        )
    return _of_file(path, config, is_xl, dtype, own)


def _other_vae(context: PythonModelContext, base: dict[str, Any], config: str) -> Any:
    files = {
        name.removeprefix("vae/"): sha
        for name, sha in base["files"].items()
        if name.startswith("vae/")
    }
    # A hub id may have named its revision, as in `owner/name@revision`.
    name = base["vae"].partition("@")[0] if base["vae_revision"] else base["vae"]
    path = _found(context, "vae", name, base["vae_revision"], files)
    return _autoencoder(path, list(files), config)


def _of_folder(
    folder: Path, files: dict[str, str], is_xl: bool, dtype: torch.dtype, own: dict[str, Any]
) -> Any:
    """Load part by part: a folder may hold one in the fp16 variant alone, and another plain."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

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
    return _kind(is_xl).from_pretrained(str(folder), local_files_only=True, **parts, **own)


def _kind(is_xl: bool) -> Any:
    from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

    return StableDiffusionXLPipeline if is_xl else StableDiffusionPipeline


def _stored(folder: Path, names: list[str]) -> dict[str, Any]:
    """Return how a part's weights, of which these files were scored, are named to its class."""
    return {
        "pretrained_model_name_or_path": str(folder),
        "variant": "fp16" if any(".fp16" in name for name in names) else None,
        "use_safetensors": True,
        "local_files_only": True,
    }


def _of_file(path: Path, config: str, is_xl: bool, dtype: torch.dtype, own: dict[str, Any]) -> Any:
    from diffusers import UNet2DConditionModel

    common = {"config": config, "local_files_only": True}
    unet = UNet2DConditionModel.from_single_file(str(path), subfolder="unet", dtype=dtype, **common)
    return _kind(is_xl).from_single_file(str(path), unet=unet, dtype=torch.float32, **common, **own)


def _autoencoder(path: Path, names: list[str], config: str) -> Any:
    from diffusers import AutoencoderKL

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


mlflow.models.set_model(FewStepPictures())
