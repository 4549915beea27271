"""How two published surveys differ. It reads what is published of them, and nothing of their checkpoints."""
