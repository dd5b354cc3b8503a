"""Measures: pure functions of numbers, each with its definition and its source; no model, no file, no clock."""
