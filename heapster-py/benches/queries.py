"""How long PromQL takes from Python, and then to make columns of the answer.

The example directory_speed of heapster-query asks the same in Rust.

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
            questions, columns, points = [], [], 0
            for _ in range(RUNS):
                begin = time.perf_counter()
                result = db.query_range(expression, *bounds, step)
                answered = time.perf_counter()
                points = len(result.table)
                questions.append(answered - begin)
                columns.append(time.perf_counter() - answered)
                # The Rust side, too, lets go of an answer outside of what it measures.
                del result
            took = f"{shown(questions)}, columns {shown(columns)}"
            print(f"{took}: {expression} every {step}: {points:,} points")


def shown(times: list[float]) -> str:
    times.sort()
    return f"{times[len(times) // 2] * 1e3:9.3f} ms best {times[0] * 1e3:9.3f} ms"


if __name__ == "__main__":
    main(sys.argv[1])
