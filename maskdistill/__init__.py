"""MaskDistill: unlabelled photographs in; object masks, categories and a segmentation model out."""

__version__ = "0.1.0"
