"""Whole chains made of stages, training and evaluation."""
