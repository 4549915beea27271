"""What the claims about memory, speed and size rest on."""
