"""Rewards over HTTP for any trainer: ``ropd serve-reward``."""
