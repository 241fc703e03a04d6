"""How far a result can be trusted, judged without labels."""
