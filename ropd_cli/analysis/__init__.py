"""What is computed of runs and judged groups; no pages and no terminal here."""
