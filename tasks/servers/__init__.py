"""What Prefect's and MLflow's servers are told to do by themselves."""
