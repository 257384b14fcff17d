"""Tasks made by program: prompts with an answer that can be checked."""
