"""Judges: verdicts of models on candidates, how biased they are, and how to make them less so."""
