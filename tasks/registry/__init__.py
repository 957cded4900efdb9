"""Versions in MLflow's registry: what they carry, what they were made of, how they are served."""
