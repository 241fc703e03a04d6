"""Kinds of exported models: one module writes one and says how to use it."""
