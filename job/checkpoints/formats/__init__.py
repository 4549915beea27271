"""Weight files: from bytes to where tensors lie. Parsers take bytes and return values; they fetch nothing."""
