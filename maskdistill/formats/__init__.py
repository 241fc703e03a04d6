"""File formats that several stages share."""
