"""The distillation run: its draws, its state, its loop."""
