"""What is said of a survey: the manifest, its schema, what is published, what changed."""
