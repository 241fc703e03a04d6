"""Sources of images: one manifest for all, ground truth apart."""
