"""Which tensor is W, and how it relates to the input embedding."""
