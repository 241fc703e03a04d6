"""Files of objects for other tools: one module per format, found by its ``FORMAT`` (:mod:`.registry`)."""
