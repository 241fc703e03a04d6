"""Objects that people corrected in another tool, read back: one module a format, found by its ``READER``."""
