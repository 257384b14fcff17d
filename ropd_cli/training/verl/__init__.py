"""Everything that imports verl, ray or torch; loaded in the training's own processes only."""
