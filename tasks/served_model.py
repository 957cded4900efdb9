"""The registered model: prompts in, pictures out. MLflow stores this very file with each version.

It imports nothing of this project, so that a version loads wherever torch and diffusers are.
"""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import torch
from diffusers import (
    DiffusionPipeline,
    LCMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
)
from diffusers.utils import logging
from mlflow.pyfunc import PythonModel, PythonModelContext
from safetensors import safe_open

_MOST_STEPS = 8


class FewStepPictures(PythonModel):
    """A Stable Diffusion with its LCM-LoRA and the scheduler that the adapter was distilled for."""

    def load_context(self, context: PythonModelContext) -> None:
        """Build the pipeline from the version's own files, or from the hub id in the recipe."""
        logging.disable_progress_bar()
        adapter = Path(context.artifacts["adapter"])
        recipe = json.loads((adapter / "recipe.json").read_text())
        pipeline = _base(context.artifacts.get("base"), recipe["base"])
        pipeline.scheduler = LCMScheduler.from_config(recipe["scheduler"]["config"])
        pipeline.load_lora_weights(str(adapter), weight_name="pytorch_lora_weights.safetensors")
        pipeline.set_progress_bar_config(disable=True)
        self._pipeline = pipeline.to("cuda" if torch.cuda.is_available() else "cpu")

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


def _base(stored: str | None, named: dict[str, Any]) -> Any:
    plain = {"safety_checker": None, "requires_safety_checker": False}
    if stored is None:
        return DiffusionPipeline.from_pretrained(
            named["model"], revision=named["revision"], use_safetensors=True, **plain
        )
    if Path(stored).is_file():
        with safe_open(stored, framework="pt") as weights:
            is_sdxl = any(n.startswith("conditioner.embedders.1.") for n in list(weights.keys()))
        family = StableDiffusionXLPipeline if is_sdxl else StableDiffusionPipeline
        return family.from_single_file(stored)
    return DiffusionPipeline.from_pretrained(stored, use_safetensors=True, **plain)


mlflow.models.set_model(FewStepPictures())
