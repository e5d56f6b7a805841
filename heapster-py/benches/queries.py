"""How long PromQL takes from Python; the example directory_speed of heapster-query asks the same.

    queries.py DATA
"""

from __future__ import annotations

import sys
import time

import heapster

RUNS = 31
QUERIES = [
    ("sum(memory_working_set)", "5m"),
    ("sum by (namespace_name) (max_over_time(memory_working_set[1h]))", "1h"),
    ("memory_working_set", "5m"),
    ('memory_working_set{nodename="node-003"}', "1m"),
]


def main(data: str) -> None:
    with heapster.open(f"{data}/store") as db:
        bounds = db.bounds
        assert bounds is not None
        for expression, step in QUERIES:
            times = []
            for _ in range(RUNS):
                begin = time.perf_counter()
                result = db.query_range(expression, *bounds, step)
                times.append(time.perf_counter() - begin)
            times.sort()
            took = f"{times[RUNS // 2] * 1e3:9.3f} ms best {times[0] * 1e3:9.3f} ms"
            print(f"{took} {expression} every {step}: {len(result):,} points")


if __name__ == "__main__":
    main(sys.argv[1])
