"""DeepLab-v3: model, data, training, inference."""
