"""What one model may cost: the memory that this process has, and processes with limits of their own."""
