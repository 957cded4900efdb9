"""Runs and stages on others' machines: orders, checkouts, and what is handed over."""
