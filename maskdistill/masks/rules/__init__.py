"""Mask rules, one module each: found by :mod:`maskdistill.masks.registry`, which needs no list of them."""
