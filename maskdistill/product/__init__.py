"""A run's models for everyday use: a configuration for one's own photographs, predictions, export, model
card.
"""
