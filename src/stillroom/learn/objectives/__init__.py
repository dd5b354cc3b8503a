"""Losses as sums with denominators."""
