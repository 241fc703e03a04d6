"""What the rules of the workflow share: paths of results, required weights, commands to print."""
