"""File formats that several stages use."""
