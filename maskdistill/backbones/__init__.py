"""Backbones: vision transformers for features, ResNets for detector and segmenter."""
