"""What every training shares: the loop, data order, checkpoints, several processes."""
