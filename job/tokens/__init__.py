"""The tokens that the rows stand for: the checkpoint's own tokenizer."""
