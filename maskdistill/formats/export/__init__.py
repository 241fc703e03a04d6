"""Files in which other tools take objects: one module a format, found by its ``FORMAT``
(:mod:`.registry`).
"""
