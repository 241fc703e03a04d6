"""Everyday use of a run: configuration for photographs, predictions, export, model card."""
