"""A run of several workers: its pinned list, and which worker surveys which model."""
