"""Scores against ground truth, which only this package reads."""
