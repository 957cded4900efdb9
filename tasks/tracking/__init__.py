"""MLflow runs: one for each adapter, with its curve, scores, pictures and origin."""
