"""Which tokens round-trip, and which can be reached: by exhibits and by proofs."""
