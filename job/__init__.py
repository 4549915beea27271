"""Black-hole survey: measure the unembedding matrices of language models without loading the models."""

__version__ = "0.1.0"
