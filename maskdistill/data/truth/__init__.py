"""Ground truth of sources: a module for each kind that has some, called as the kind.

Only evaluation imports it.
"""
