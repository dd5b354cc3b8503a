"""Instructions whose constraints a program can check: IFEval's kinds, lists of words, and how constraints combine."""
