"""The paper's tables and figures, with its published values next to a run's."""
