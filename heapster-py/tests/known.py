"""A store with known contents."""

from __future__ import annotations

import heapster

START = 1_793_534_400_000  # 2026-11-01T12:00:00Z
MINUTE = 60_000
GIB = 2**30


def fill(store: heapster.Store) -> None:
    """Two pods with six minutes of memory, which rises by a byte each minute."""
    for minute in range(6):
        pods = [("db-0", 2 * GIB + minute), ("web-1", GIB + minute)]
        batch = [
            (
                {"type": "pod", "namespace_name": "shop", "pod_name": pod},
                {"memory/usage": value},
            )
            for pod, value in pods
        ]
        assert store.append(batch, START + minute * MINUTE, unit="ms").accepted == 2


#: Some seconds of work on a store that is busy.
SLOW = " + ".join(["sum(busy * 2)"] * 150)


def make_busy(store: heapster.Store) -> None:
    """Many series, so that a query takes long and looks often whether it is still wanted."""
    batch = [({"n": str(number)}, {"busy": number}) for number in range(1000)]
    for minute in range(0, 60, 4):
        assert store.append(batch, START + minute * MINUTE, unit="ms").accepted == 1000
