"""The embedded world: captioned scenes, a tiny Stable Diffusion, and judges of its pictures."""
