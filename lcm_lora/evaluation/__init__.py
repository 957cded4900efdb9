"""Measure image sets: features, distances, scores of single pictures, and the table of it all."""
