"""The lines of Stable Diffusion that can be distilled, and how a base is told to be of one.

The first look imports no torch: only `autoencoder`, `conditioning` and `loading` here do.
"""
