"""What the rows stand for: the checkpoint's own tokenizer."""
