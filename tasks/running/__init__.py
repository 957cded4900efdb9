"""Stages of dvc.yaml as Prefect tasks: what is due, who may compute, and no survivors."""
