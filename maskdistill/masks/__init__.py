"""Object masks from patch keys: the paper's rule, simpler ones beside it, outlines, records."""
