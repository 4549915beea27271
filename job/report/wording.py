"""What the pages of a model call ties, classes of tokens and lists of ids."""

from typing import Final

TIE_TEXTS: Final = {
    "tied": "yes, stored once",
    "tied_copy": "a copy is stored",
    "untied": "no",
    "config_says_tied_but_differ": "no, although the config says so",
}

CLASS_TEXTS: Final = {
    "ordinary": "of ordinary tokens",
    "special": "of control tokens",
    "reserved": "of reserved tokens",
    "byte": "of single bytes",
    "partial_utf8": "of parts of characters",
    "beyond_tokenizer": "beyond the tokenizer",
}
CLASS_TITLES: Final = {"partial_utf8": "partial UTF-8", "beyond_tokenizer": "beyond tokenizer"}
"""Classes of tokens in cells and heads of tables, where these are not called as in the data."""
LIST_TEXTS: Final = {
    "unreachable": "unreachable: no text encodes to them",
    "not_round_tripping": "that do not round-trip: their text encodes to other ids",
    "reserved": "reserved, control tokens among them",
    "reserved_in_black_hole": "reserved and in a black hole",
}
