"""Scores against ground truth; the only package that reads it."""
