"""The metrics, one module per family; see :mod:`maskdistill.evaluation.metrics.registry`."""
