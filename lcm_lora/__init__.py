"""Distil a Stable Diffusion model into a few-step LCM-LoRA, and measure what came out."""
