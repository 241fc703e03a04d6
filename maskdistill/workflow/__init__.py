"""What the rules of the workflow share: paths of results, needed weights, commands as they are typed."""
