"""Both passes over the rows of W, and the rows on disk that the second one reads."""
