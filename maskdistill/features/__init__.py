"""Patch keys and CLS features of a vision transformer, and the shards that hold them."""
