"""Mask R-CNN with a C4 trunk: model, data, training, inference."""
