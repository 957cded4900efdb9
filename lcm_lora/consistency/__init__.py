"""The mathematics of consistency distillation: pure functions, each beside its formula.

Legend: B batch, C channels, h w latent; z a noisy latent, x0 a clean one, eps noise.
t is a training timestep in 0..T-1, n an index into the solver's grid of N points.
"""
