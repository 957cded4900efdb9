"""Measurements that docs/living-data.md quotes; `make bench` repeats them all."""
