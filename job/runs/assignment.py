"""Assigns the models of a run to its workers. Pure: the same input gives the same result on every worker."""

import heapq
from collections import defaultdict
from collections.abc import Sequence


def assign_workers(loads: Sequence[tuple[str, int]], workers: int) -> list[int]:
    """The worker of each load, from 0. A load is a group and a number of bytes; all loads of a group get one worker.

    The groups are assigned from the largest to the smallest, each to the worker with the fewest bytes, and then with
    the fewest loads. The largest share is at most 4/3 of the best possible (R. L. Graham, "Bounds on multiprocessing
    timing anomalies", 1969).
    """
    if workers < 1:
        raise ValueError(f"workers={workers} must be positive")
    groups: defaultdict[str, list[int]] = defaultdict(list)
    for position, (group, _) in enumerate(loads):
        groups[group].append(position)
    sizes = {group: sum(loads[position][1] for position in members) for group, members in groups.items()}
    shares = [(0, 0, worker) for worker in range(workers)]  # a heap: the smallest share comes first
    assigned = [0] * len(loads)
    for group in sorted(groups, key=lambda group: (-sizes[group], -len(groups[group]), group)):
        nbytes, n_loads, worker = shares[0]
        for position in groups[group]:
            assigned[position] = worker
        heapq.heapreplace(shares, (nbytes + sizes[group], n_loads + len(groups[group]), worker))
    return assigned
