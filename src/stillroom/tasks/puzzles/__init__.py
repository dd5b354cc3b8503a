"""Twenty grid puzzles with their full rules: generators, checkers, a solver, pictures, texts and search traces.

After VGRP-Bench (arXiv 2503.23064): the same puzzles and sizes, with the rules written anew and none left unchecked.
"""
