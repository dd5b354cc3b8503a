"""Strategies: ways to answer with one or more calls of a model. A strategy is a sampler made of samplers."""
