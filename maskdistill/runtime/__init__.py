"""The edges every stage shares: files, devices, logging, provenance, errors."""
