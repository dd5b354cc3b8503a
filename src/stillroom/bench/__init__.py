"""Measurements of Stillroom itself."""
