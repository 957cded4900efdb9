"""The arithmetic of adapters: how a style and an acceleration lie to each other, and what carries.

`docs/arithmetic.md` quotes what `python -m bench.arithmetic` writes.
"""
