"""What people look at: the terminal and the page of each model."""
