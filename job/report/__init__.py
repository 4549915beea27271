"""What people read: the terminal, the termination message, and the page of each model."""
