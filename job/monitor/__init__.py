"""What can be watched during a run: progress, stages and metrics."""
