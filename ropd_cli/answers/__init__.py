"""What of a text is the answer, and whether two answers are the same."""
