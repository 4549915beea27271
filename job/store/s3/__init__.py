"""To a bucket. It does not know what is published."""
