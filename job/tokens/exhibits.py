"""Looks for texts whose encodings hold given ids: what shows that an id can be reached."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from typing import TYPE_CHECKING, Final

from job.tokens.encoding_steps import SPACE
from job.tokens.utf8 import is_text, with_whole_characters

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MAX_BATCH: Final = 4_096
MAX_BATCH_CHARACTERS: Final = 1 << 20
"""Of texts that are encoded together; a text that is longer is alone. An encoding takes about 150 bytes a token."""
MAX_SEARCHED_TEXT: Final = 500
"""In characters. Longer texts are encoded alone, but not put in contexts: a token is one context of many."""
MAX_COMPLETIONS: Final = 4_096
"""Texts that are tried for bytes that are no text by themselves."""

_BEFORE: Final = ("", " ", "\n", "a", "0", ".", "(", "\ue000", "é", "が", "\t", "A", "-", "م", "\r\n", "  ", "💡")
_AFTER: Final = ("", "a", " ", "\n", "0", ".", "\ue000", "é", "  ", " a")
"""What a text is put between. Each stands for a kind of character that pre-tokenizers and merges tell apart; U+E000,
which is private, is in no vocabulary, so that nothing merges with it where bytes are a fall-back."""
CONTEXTS: Final = tuple((before, after) for before in _BEFORE for after in _AFTER)

_FREQUENT_PLANES: Final = (range(1, 0xD800), range(0xE000, 0x1_4000), range(0x1_6000, 0x3_2400, 3))
_RARE_PLANES: Final = range(0x3_2400, 0x11_0000, 997)


class Exhibits:
    """The ids that encodings were seen to hold."""

    def __init__(self, backend: "Tokenizer", n_ids: int) -> None:
        self._backend = backend
        self._seen = bytearray(n_ids)

    def __contains__(self, id: int) -> bool:
        return bool(self._seen[id])

    def encode(self, texts: Iterable[str]) -> Iterator[list[int]]:
        """The ids of each text, which are noted down. Does not add tokens for the beginning and the end."""
        for batch in _batches(texts):
            for encoding in self._backend.encode_batch_fast(batch, add_special_tokens=False):
                ids: list[int] = encoding.ids
                for id in ids:
                    if id < len(self._seen):
                        self._seen[id] = 1
                yield ids

    def look(self, texts: Iterable[str]) -> None:
        """Encode texts, for the ids that they may hold."""
        for _ in self.encode(texts):
            pass

    def look_in_contexts(self, bases: dict[int, list[str]]) -> None:
        """Put the texts of ids in one context after another, until each id was seen or all contexts were tried."""
        for before, after in CONTEXTS:
            bases = {id: texts for id, texts in bases.items() if not self._seen[id]}
            self.look(
                before + text + after for texts in bases.values() for text in texts if len(text) <= MAX_SEARCHED_TEXT
            )

    def look_in_completions(self, data: dict[int, bytes]) -> None:
        """Complete bytes that are no text by themselves, each time by more characters."""
        waiting = {id: islice(with_whole_characters(each), MAX_COMPLETIONS) for id, each in data.items()}
        size = 8
        while waiting:
            taken = {id: list(islice(texts, size)) for id, texts in waiting.items()}
            self.look(chain.from_iterable(taken.values()))
            waiting = {id: waiting[id] for id, texts in taken.items() if texts and not self._seen[id]}
            size = min(2 * size, 512)

    def look_at_all_characters(self) -> None:
        """Encode characters of all scripts, each by itself: bytes, parts of characters and unknown ones are in them."""
        codes = chain(*_FREQUENT_PLANES, _RARE_PLANES)
        self.look(map(chr, codes))


@contextmanager
def encoding_whole_texts(backend: "Tokenizer") -> Iterator[None]:
    """Without truncation and padding, which are set back at the end."""
    truncation, padding = backend.truncation, backend.padding
    backend.no_truncation()
    backend.no_padding()
    try:
        yield
    finally:
        if truncation is not None:
            backend.enable_truncation(**truncation)
        if padding is not None:
            backend.enable_padding(**padding)


def texts_of(piece: str, text: str | None, data: bytes | None, prefix: str) -> list[str]:
    """The texts that a piece may stand for: as it decodes, by its bytes, and as it is spelt. ``prefix``: that of pieces
    within words."""
    found = dict.fromkeys((text or "", piece.removeprefix(prefix).replace(SPACE, " "), piece))
    if data and is_text(data):
        found[data.decode()] = None
    return [text for text in found if text]


def _batches(texts: Iterable[str]) -> Iterator[Sequence[str]]:
    batch: list[str] = []
    n_characters = 0
    for text in texts:
        if batch and (len(batch) == MAX_BATCH or n_characters + len(text) > MAX_BATCH_CHARACTERS):
            yield batch
            batch, n_characters = [], 0
        batch.append(text)
        n_characters += len(text)
    if batch:
        yield batch
