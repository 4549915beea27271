"""An S3 server that costs next to nothing: it takes uploads, forgets them, and says the truth of what it was sent."""
