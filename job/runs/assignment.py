"""This worker's share: which of a run's workers takes which model. Pure; the same answer wherever it is asked."""

import heapq
from collections import defaultdict
from collections.abc import Sequence


def balance(loads: Sequence[tuple[str, int]], workers: int) -> list[int]:
    """The worker, from 0, that takes each item; an item is the group it belongs to and the bytes it moves.

    A group stays together. Each worker's bytes come near the mean: the largest group goes first, always to whoever has
    the fewest bytes, then the fewest items (R. L. Graham, "Bounds on multiprocessing timing anomalies", 1969: at most
    4/3 of the best possible).
    """
    if workers < 1:
        raise ValueError(f"workers={workers} must be positive")
    groups: defaultdict[str, list[int]] = defaultdict(list)
    for position, (group, _) in enumerate(loads):
        groups[group].append(position)
    sizes = {group: sum(loads[position][1] for position in members) for group, members in groups.items()}
    lightest = [(0, 0, worker) for worker in range(workers)]
    taken_by = [0] * len(loads)
    for group in sorted(groups, key=lambda group: (-sizes[group], -len(groups[group]), group)):
        nbytes, items, worker = lightest[0]
        for position in groups[group]:
            taken_by[position] = worker
        heapq.heapreplace(lightest, (nbytes + sizes[group], items + len(groups[group]), worker))
    return taken_by
