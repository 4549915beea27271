"""HTML pages. Each is one file that opens without a network. Knows what it shows, and not where it lies."""
