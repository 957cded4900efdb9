"""The effects: Prefect tasks around DVC stages, MLflow runs and model versions."""
