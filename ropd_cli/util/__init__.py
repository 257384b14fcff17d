"""Small helpers of every room: progress, processes, shipped files, token estimates."""
