"""The public Python API: what ``from maskdistill import ...`` gives.

Reference: docs/reference/python-api.md.
"""
