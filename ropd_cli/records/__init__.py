"""Records and the files they lie in: their schemas, JSON Lines, Zstandard, Parquet."""
