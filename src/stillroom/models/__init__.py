"""Policies: language models with their tokenizer, loaded, saved and looked into in one way."""
