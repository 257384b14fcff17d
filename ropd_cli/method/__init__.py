"""The method of the paper, pure: text in, record out. Nothing here reads a file or asks a model."""
