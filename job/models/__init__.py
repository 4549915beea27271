"""Which models to survey: references, queries and lists of them."""
