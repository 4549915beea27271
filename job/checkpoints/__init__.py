"""READ: pin a revision, find W's bytes in its files, stream them."""
