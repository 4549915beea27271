"""One long range as a stream of chunks, several fetched at once. It knows neither protocol nor file."""

from collections.abc import Callable, Iterator
from queue import SimpleQueue
from threading import Thread


def stream_range(
    fetch: Callable[[int, int], bytes], begin: int, end: int, *, chunk_nbytes: int, connections: int
) -> Iterator[bytes]:
    """Bytes ``begin`` to ``end`` in order, in chunks of ``chunk_nbytes`` (the last may be shorter).

    ``connections`` chunks are being fetched or wait for their turn while the caller holds one more. The first fetch
    to fail ends the stream with its error, even when an earlier chunk is still on its way. Abandoning the stream
    leaves the fetches that are under way to end by themselves.
    """
    if chunk_nbytes < 1 or connections < 1:
        raise ValueError(f"chunk_nbytes={chunk_nbytes} and connections={connections} must both be positive")
    return _stream(fetch, range(begin, end, chunk_nbytes), end, connections)


def _stream(fetch: Callable[[int, int], bytes], starts: range, end: int, connections: int) -> Iterator[bytes]:
    arrivals: SimpleQueue[tuple[int, bytes | BaseException]] = SimpleQueue()
    early: dict[int, bytes] = {}

    def bring(start: int) -> None:
        try:
            arrivals.put((start, fetch(start, min(start + starts.step, end))))
        except BaseException as error:  # noqa: BLE001 - raised where the chunk is awaited, which would else wait for ever
            arrivals.put((start, error))

    def send_for(start: int) -> None:
        # A daemon, unlike an executor's thread: a fetch that is stalled does not keep an ending process alive.
        Thread(target=bring, args=(start,), name=f"chunk-{start}", daemon=True).start()

    for start in starts[:connections]:
        send_for(start)
    for index, start in enumerate(starts):
        while start not in early:
            arrived, outcome = arrivals.get()
            if isinstance(outcome, BaseException):
                raise outcome
            early[arrived] = outcome
            del outcome  # while the next chunk is awaited, nothing but ``early`` holds on to this one
        if index + connections < len(starts):
            send_for(starts[index + connections])
        yield early.pop(start)
