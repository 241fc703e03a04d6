"""The paper's tables and figures: its published values beside those of a run."""
