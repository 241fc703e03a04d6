"""The metrics, a module a family; see :mod:`maskdistill.evaluation.metrics.registry`."""
