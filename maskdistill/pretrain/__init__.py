"""Self-supervised training of a backbone on unlabelled images."""
