"""Loads each kind of tokenizer from its files. Executes no code of a checkpoint."""
