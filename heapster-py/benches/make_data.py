"""Puts the generator's memory of 5,000 containers over a day, 7.2 million samples, into a store and a
Parquet file.

    make_data.py GENERATED OUT
"""

from __future__ import annotations

import csv
import pathlib
import shutil
import sys
import time

import numpy
import polars

import heapster

#: Sets of one part, so that a frame stays small.
SLOTS = 500


def main(generated: pathlib.Path, out: pathlib.Path) -> None:
    meta = dict(pair.split("=") for pair in (generated / "meta.txt").read_text().split())
    slots, steps, nodes = int(meta["S"]), int(meta["T"]), int(meta["N"])
    values = numpy.fromfile(generated / "mem_ws.i64", "<i8").reshape(slots, steps)
    times = numpy.fromfile(generated / "ts.i64", "<i8").reshape(nodes, steps)
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    with open(generated / "instances.csv", newline="") as file:
        instances = list(csv.DictReader(file))
    frames, begin = [], time.monotonic()
    with heapster.open(out / "store", "rw") as store:
        for first in range(0, slots, SLOTS):
            part = [one for one in instances if first <= int(one["slot"]) < first + SLOTS]
            pieces = []
            for one in part:
                slot, start, end = int(one["slot"]), int(one["start"]), int(one["end"])
                length = end - start
                labels = {
                    "type": "pod_container",
                    "namespace_name": one["namespace"],
                    "pod_name": one["pod"],
                    "container_name": one["container"],
                    "nodename": one["node"],
                }
                pieces.append(
                    polars.DataFrame(
                        {
                            "time": times[slot * nodes // slots, start:end],
                            **{name: [value] * length for name, value in labels.items()},
                            "memory/working_set": values[slot, start:end],
                        }
                    )
                )
            frame = polars.concat(pieces).with_columns(
                polars.col("time").cast(polars.Datetime("ms", "UTC"))
            )
            report = store.append_frame(frame)
            assert report.accepted == len(frame) and not report.refused, report
            frames.append(frame)
        print(f"appended {slots * steps:,} samples in {time.monotonic() - begin:.1f} s")
        store.compact()
    whole = polars.concat(frames).with_columns(
        polars.col(polars.String).cast(polars.Categorical),
    )
    whole = whole.rename({"memory/working_set": "value"})
    whole.write_parquet(out / "samples.parquet", compression="zstd")
    size = sum(file.stat().st_size for file in (out / "store").rglob("*") if file.is_file())
    print(f"store {size:,} bytes, Parquet {(out / 'samples.parquet').stat().st_size:,} bytes")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
