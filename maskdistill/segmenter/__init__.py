"""DeepLab-v3, or a vision transformer with a decoder: model, data, training, inference."""
