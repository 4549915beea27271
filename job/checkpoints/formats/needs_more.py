"""How a parser says that it was given too few of a file's bytes."""


class NeedsMore(Exception):
    """What is parsed goes on beyond the bytes that were given."""

    def __init__(self, nbytes: int) -> None:
        super().__init__(f"{nbytes:,} bytes or more are needed")
        self.nbytes = nbytes
        """At least so many are needed, of the file's beginning or of its end."""
