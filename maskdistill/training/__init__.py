"""What all trainings share: the loop, data order, checkpoints, several processes."""
