"""Which models: references and lists of them."""
