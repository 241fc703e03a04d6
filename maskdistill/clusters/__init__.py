"""From CLS features to categories: embeddings, K-means, assignments."""
