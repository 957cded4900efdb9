"""The aliases that a version of the adapter can hold; `mlflow models serve` finds it by them."""

CHAMPION = "champion"
CHALLENGER = "challenger"
"""The newest that is not champion: kept back by the gate, or waiting for somebody's word."""
