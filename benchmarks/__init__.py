"""What the claims about memory and speed rest on."""
