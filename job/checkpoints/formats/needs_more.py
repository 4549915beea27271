"""The exception by which a parser asks for more of a file's bytes."""


class NeedsMore(Exception):
    """The parser was given too few bytes."""

    def __init__(self, nbytes: int) -> None:
        super().__init__(f"{nbytes:,} bytes or more are needed")
        self.nbytes = nbytes
        """The parser needs at least this many bytes from the start of the file, or from its end."""
