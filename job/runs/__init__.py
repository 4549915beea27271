"""A run of several workers: its pinned list, and the models of each worker."""
