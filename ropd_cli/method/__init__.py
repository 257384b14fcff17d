"""The method of the paper, pure: text in, record out. Nothing here asks a model; only templates are read from files."""
