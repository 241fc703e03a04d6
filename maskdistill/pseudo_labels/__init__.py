"""Confident candidates become label maps."""
