"""What the job is measured against. Each is a program of its own that knows nothing of the job."""
