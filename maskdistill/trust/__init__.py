"""What can be said about a result without labels."""
