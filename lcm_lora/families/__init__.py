"""The lines of Stable Diffusion that can be distilled, and how a base is told to be of one.

Everything but `conditioning` and `loading` is light: the first look imports no torch.
"""
