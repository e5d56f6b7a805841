"""What is appended comes back, and what is refused is told."""

from __future__ import annotations

import datetime as dt
import math
import struct

import numpy
import pandas
import polars
import pyarrow
import pytest

import heapster
from known import START

INTS = [0, -1, 2**53 + 1, 2**63 - 1, -(2**63), 9_007_199_254_740_993]
FLOATS = [0.0, -0.0, math.nan, math.inf, -math.inf, 5e-324, 1.7976931348623157e308]
#: 1 January 1601, the day before 1970 and later.
TIMES = [-11_644_473_600_000, -86_400_000, -1, 0, 1, START, START + 1]


def bits(values: list[float]) -> list[bytes]:
    return [struct.pack("<d", value) for value in values]


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_a_frame_comes_back_bit_for_bit(writer: heapster.Store, library: str) -> None:
    nan = struct.unpack("<d", struct.pack("<Q", 0x7FF8_0000_0000_1234))[0]
    floats = [*FLOATS[:-1], nan]
    columns = {
        "time": numpy.array(TIMES, "datetime64[ms]"),
        "room": ["hall"] * len(TIMES),
        "ints": numpy.array([*INTS, 7], "int64"),
        "floats": numpy.array(floats, "float64"),
    }
    table = pyarrow.table(columns)
    if library == "pandas":
        frame = pandas.DataFrame(columns)
    else:
        frame = polars.DataFrame(table) if library == "polars" else table
    report = writer.append_frame(frame)
    assert (report.accepted, report.refused) == (2 * len(TIMES), {})

    ints, stored = writer.select("ints").to_numpy(), writer.select("floats").to_numpy()
    assert ints["value"].dtype == numpy.int64
    assert ints["value"].tolist() == [*INTS, 7]
    assert ints["time"].astype("int64").tolist() == TIMES
    assert stored["value"].tobytes() == numpy.array(floats).tobytes()

    # And once more, from the frame that came back.
    for exit in ("to_pandas", "to_polars", "to_arrow"):
        with heapster.open(f"{writer.path}-{exit}", "rw") as copy:
            for metric in ("ints", "floats"):
                copy.append_frame(getattr(writer.select(metric), exit)())
            assert copy.select("ints").to_dict() == writer.select("ints").to_dict()
            again = copy.select("floats").to_numpy()["value"]
            assert again.tobytes() == stored["value"].tobytes()


def test_a_result_of_integers_and_floats_comes_back(writer: heapster.Store) -> None:
    writer.append([({"a": "1"}, {"i": 2**53 + 1, "f": 0.5})], START, unit="ms")
    result = writer.select("{}")
    with heapster.open(f"{writer.path}-copy", "rw") as copy:
        assert copy.append_frame(result).accepted == 2
        assert copy.select("i").item() == 2**53 + 1
        assert copy.select("{}").to_dict() == result.to_dict()


def test_a_batch_comes_back(writer: heapster.Store) -> None:
    batch = [
        ({"pod": "a"}, {"i": 2**63 - 1, "f": -0.0, "yes": True}),
        ({"pod": "b"}, {"i": numpy.int64(5), "f": numpy.float32(0.5)}),
    ]
    report = writer.append(batch, dt.datetime(1969, 7, 20, 20, 17), ack="durable")
    assert report == heapster.Appended(accepted=5)
    rows = writer.select("{}").wide().to_dict()
    assert rows["time"] == [dt.datetime(1969, 7, 20, 20, 17, tzinfo=dt.timezone.utc)]
    assert rows['i{pod="a"}'] == [2**63 - 1] and rows['i{pod="b"}'] == [5]
    assert bits(rows['f{pod="a"}']) == bits([-0.0]) and rows['f{pod="b"}'] == [0.5]
    assert rows['yes{pod="a"}'] == [1]
    assert writer.append(batch, dt.datetime(1969, 7, 20, 20, 17)).duplicate == 5


def test_a_number_that_would_change_is_refused(writer: heapster.Store) -> None:
    for value in (2**63, 10**30, "5", None, 1j):
        with pytest.raises(heapster.errors.QueryError, match="64 bits"):
            writer.append([({}, {"n": value})])
    with pytest.raises(heapster.errors.QueryError, match="no float can hold"):
        writer.append_frame({"time": [START], "n": [2**53 + 1, 0.5]}, unit="ms")
    assert len(writer.select("{}")) == 0


def test_what_is_refused_is_counted_by_reason(writer: heapster.Store) -> None:
    frame = pyarrow.table(
        {
            "time": pyarrow.array([START, None, START, START, 4 * 10**12], pyarrow.timestamp("ms")),
            "metric": pyarrow.array(["a", "a", None, "b", "a"]),
            "value": pyarrow.array([1, 1, 1, 2**64 - 1, 1], pyarrow.uint64()),
        }
    )
    report = writer.append_frame(frame)
    assert report.accepted == 1
    assert report.refused == {
        "no_metric": 1,
        "no_time": 1,
        "too_far_ahead": 1,
        "value_out_of_range": 1,
    }
    assert set(report.why()) == set(report.refused)
    assert "10 minutes ahead" in report.why()["too_far_ahead"]


def test_times_are_cut_to_milliseconds_and_counted(writer: heapster.Store) -> None:
    times = pyarrow.array([1_999_999, -1, 2_000_000], pyarrow.timestamp("ns"))
    report = writer.append_frame(pyarrow.table({"time": times, "n": [1, 2, 3]}))
    assert (report.accepted, report.truncated) == (3, 2)
    assert writer.select("n").to_numpy()["time"].astype("int64").tolist() == [-1, 1, 2]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_integers_are_times_of_the_unit_that_is_given(writer: heapster.Store, unit: str) -> None:
    per_second = {"s": 1, "ms": 1000, "us": 10**6, "ns": 10**9}[unit]
    for frame in ({"t": [5 * per_second], "n": [1]}, polars.DataFrame({"t": [5 * per_second], "n": [1]})):
        with pytest.raises(heapster.errors.QueryError, match="unit"):
            writer.append_frame(frame, time="t")
        writer.append_frame(frame, time="t", unit=unit)
    assert writer.select("n").to_numpy()["time"].astype("int64").tolist() == [5000]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_pandas_times_of_any_unit_and_zone_are_understood(writer: heapster.Store, unit: str) -> None:
    index = pandas.DatetimeIndex(["2026-11-01 07:00", "2026-11-01 07:01"]).as_unit(unit)
    frame = pandas.DataFrame({"n": [1, 2]}, index=index.tz_localize("America/New_York"))
    writer.append_frame(frame)
    assert writer.select("n").to_numpy()["time"][0] == numpy.datetime64("2026-11-01T12:00")


def test_pandas_columns_of_all_kinds_are_understood(writer: heapster.Store) -> None:
    frame = pandas.DataFrame(
        {
            "time": pandas.to_datetime(["2026-11-01", "2026-11-02", None]),
            "text": ["a", None, "c"],
            "category": pandas.Categorical(["x", "y", "x"]),
            "nullable": pandas.array([2**53 + 1, None, 3], "Int64"),
            "unsigned": numpy.array([1, 2**64 - 1, 3], "uint64"),
            "truth": [True, False, True],
            "small": numpy.array([0.5, math.nan, 1], "float32"),
        }
    )
    report = writer.append_frame(frame)
    assert report.missing == 1
    assert report.refused == {"no_time": 4, "value_out_of_range": 1}
    assert writer.select("nullable").to_dict()["value"] == [2**53 + 1]
    assert writer.select("truth").to_dict()["value"] == [1, 0]
    assert math.isnan(writer.select('small{category="y"}').item())
    assert writer.labels("text") == ["a"]


@pytest.mark.parametrize(
    "texts",
    [
        pyarrow.array(["x", "y", None]),
        pyarrow.array(["x", "y", None], pyarrow.large_utf8()),
        pyarrow.array(["x", "y", None], pyarrow.string_view()),
        pyarrow.array(["x", "y", None]).dictionary_encode(),
        pyarrow.DictionaryArray.from_arrays(
            pyarrow.array([0, 1, None], pyarrow.uint8()), pyarrow.array(["x", "y"], pyarrow.large_utf8())
        ),
    ],
    ids=lambda array: str(array.type),
)
def test_texts_of_all_arrow_types_are_labels(writer: heapster.Store, texts: pyarrow.Array) -> None:
    times = pyarrow.array([1, 2, 3], pyarrow.timestamp("s"))
    writer.append_frame(pyarrow.table({"time": times, "label": texts, "n": [1, 2, 3]}))
    assert writer.select("n").to_dict()["label"] == [None, "x", "y"]


def test_labels_may_be_chosen_and_added(writer: heapster.Store) -> None:
    frame = polars.DataFrame({"time": [1], "a": ["1"], "b": ["2"], "n": [5]})
    with pytest.raises(heapster.errors.QueryError, match='"b" of .* is neither'):
        writer.append_frame(frame, unit="s", labels=["a"])
    writer.append_frame(frame.drop("b"), unit="s", labels=["a"], add={"c": "3"})
    assert writer.select("n").series == [{"__name__": "n", "a": "1", "c": "3"}]


def test_what_is_no_frame_is_refused_in_words(writer: heapster.Store) -> None:
    with pytest.raises(TypeError, match="int is no frame"):
        writer.append_frame(5)
    with pytest.raises(heapster.errors.QueryError, match="no column"):
        writer.append_frame(polars.DataFrame({"t": [1], "n": [5]}))
    with pytest.raises(TypeError, match="not of times"):
        writer.append_frame(polars.DataFrame({"time": ["noon"], "n": [5]}))
    with pytest.raises(heapster.errors.QueryError, match="no column of numbers"):
        writer.append_frame(polars.DataFrame({"time": [1], "a": ["x"]}), unit="s")
    with pytest.raises(heapster.errors.QueryError, match="differ|length"):
        writer.append_frame({"time": [1, 2], "n": [1]}, unit="s")


def test_the_kind_of_a_metric_is_the_catalogues_or_as_said(writer: heapster.Store) -> None:
    writer.append([({}, {"cpu/usage": 1, "mine": 1})], START, unit="ms", kinds={"mine": "cumulative"})
    # A counter that is taken for a gauge would be warned of.
    assert writer.query("rate(mine[5m])", at="2026-11-01T12:01:00Z").warnings == []
