"""The manifest of a survey: its schema, how it is built, where it is published, and what changed since the last one."""
