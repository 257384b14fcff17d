"""How each kind of benchmark asks and grades."""
