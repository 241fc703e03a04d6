"""Backbones: vision transformers for features, ResNets and vision transformers for detector and segmenter."""
