"""The page and the summary that show a run."""
