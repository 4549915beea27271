"""All surveys of an OUTPUT, a row each. It is derived from manifests alone, and may be made again at any time."""
