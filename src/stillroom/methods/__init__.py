"""Core recipes, method pages and the catalogue of all 83."""
