"""Seconds and peak memory from a store to frames, beside the same samples in a Parquet file.

    frames.py DATA
"""

from __future__ import annotations

import pathlib
import resource
import subprocess
import sys
import time
from typing import Callable

RUNS = 5


def selected(data: str):  # type: ignore[no-untyped-def]
    import heapster

    with heapster.open(f"{data}/store") as db:
        return db.select("memory/working_set")


def heapster_polars(data: str) -> int:
    return len(selected(data).to_polars())


def heapster_pandas(data: str) -> int:
    return len(selected(data).to_pandas())


def heapster_numpy(data: str) -> int:
    # The texts of labels as objects are not what one computes with.
    table = selected(data).table
    return len(table.numbers("time")) * (len(table.numbers("value")) > 0)


def heapster_arrow(data: str) -> int:
    return int(selected(data).to_arrow().num_rows)


def parquet_polars(data: str) -> int:
    import polars

    return len(polars.read_parquet(f"{data}/samples.parquet"))


def parquet_duckdb_polars(data: str) -> int:
    import duckdb

    return len(duckdb.sql(f"select * from '{data}/samples.parquet'").pl())


def parquet_duckdb_pandas(data: str) -> int:
    import duckdb

    return len(duckdb.sql(f"select * from '{data}/samples.parquet'").df())


def parquet_duckdb_numpy(data: str) -> int:
    import duckdb

    arrays = duckdb.sql(f"select time, value from '{data}/samples.parquet'").fetchnumpy()
    return len(arrays["value"])


def parquet_pandas(data: str) -> int:
    import pandas

    return len(pandas.read_parquet(f"{data}/samples.parquet"))


WAYS: list[Callable[[str], int]] = [
    heapster_polars,
    heapster_pandas,
    heapster_numpy,
    heapster_arrow,
    parquet_polars,
    parquet_duckdb_polars,
    parquet_duckdb_pandas,
    parquet_duckdb_numpy,
    parquet_pandas,
]
PACKAGES = {"polars": "polars", "pandas": "pandas", "numpy": "numpy", "arrow": "pyarrow"}


def measure(way: str, data: str) -> None:
    """Once, in this process: seconds, and bytes beyond those of the imports."""
    for word in way.split("_"):
        if word in (*PACKAGES, "duckdb", "heapster"):
            __import__(PACKAGES.get(word, word))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin = time.perf_counter()
    rows = globals()[way](data)
    took = time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(rows, took, (peak - before) * 1024)


def main(data: str) -> None:
    print(f"{'':24} {'rows':>10} {'seconds':>8} {'peak MB':>8}")
    for way in WAYS:
        runs = []
        for _ in range(RUNS):
            command = [sys.executable, __file__, data, way.__name__]
            answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            runs.append([float(part) for part in answer.split()])
        runs.sort(key=lambda run: run[1])
        rows, took, peak = runs[RUNS // 2]
        print(f"{way.__name__:24} {rows:10,.0f} {took:8.3f} {peak / 1e6:8.0f}")


if __name__ == "__main__":
    data = str(pathlib.Path(sys.argv[1]).resolve())
    if len(sys.argv) > 2:
        measure(sys.argv[2], data)
    else:
        main(data)
