"""What is appended comes back, and what is refused is told."""

from __future__ import annotations

import datetime as dt
import decimal
import math
import struct
from typing import Iterator

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


def of_index(index: pandas.Index) -> pandas.DataFrame:
    return pandas.DataFrame({"n": [1, 2]}, index=index)


def test_labels_in_a_pandas_index_are_labels(writer: heapster.Store) -> None:
    frame = of_index(pandas.Index(["a", "b"], name="pod"))
    frame["time"] = pandas.to_datetime(["2026-11-01"] * 2)
    assert writer.append_frame(frame).accepted == 2
    assert writer.labels("pod") == ["a", "b"]


@pytest.mark.parametrize("names", [["time", "pod"], ["pod", "time"], [None, "pod"], ["at", "pod"]])
def test_levels_of_a_pandas_index_are_columns(writer: heapster.Store, names: list[str]) -> None:
    times, pods = pandas.to_datetime(["2026-11-01"] * 2), ["a", "b"]
    arrays = [pods, times] if names[0] == "pod" else [times, pods]
    frame = of_index(pandas.MultiIndex.from_arrays(arrays, names=names))
    assert writer.append_frame(frame).accepted == 2
    assert writer.select("n").to_dict()["pod"] == ["a", "b"]


def test_an_index_is_left_out_only_when_it_numbers_the_rows(writer: heapster.Store) -> None:
    frame = of_index(pandas.Index(["a", "b"]))
    frame["time"] = pandas.to_datetime(["2026-11-01", "2026-11-02"])
    with pytest.raises(heapster.errors.QueryError, match="rename_axis"):
        writer.append_frame(frame)
    rows = frame.reset_index(drop=True)
    assert writer.append_frame(pandas.concat([rows, rows])).duplicate == 2
    assert writer.append_frame(rows[rows["n"] > 1]).accepted == 1
    assert writer.select("n").series == [{"__name__": "n"}]


@pytest.mark.parametrize("pick", [slice(None, None, 2), slice(None, None, -1)])
def test_rows_of_pandas_that_are_not_one_piece_of_memory_are_taken(
    writer: heapster.Store, pick: slice
) -> None:
    index = pandas.date_range("2026-11-01", periods=6, freq="min")
    frame = pandas.DataFrame({"f": [0.5, 1, 2, 3, 4, 5], "i": range(6)}, index=index)[pick]
    writer.append_frame(frame)
    for metric in ("f", "i"):
        assert writer.select(metric).to_dict()["value"] == sorted(frame[metric])


def test_two_columns_of_one_name_are_refused(writer: heapster.Store) -> None:
    times = pyarrow.array([1], pyarrow.timestamp("s"))
    table = pyarrow.table([times, pyarrow.array([1]), pyarrow.array([2])], names=["time", "n", "n"])
    index = pandas.DatetimeIndex(["2026-11-01"])
    for frame in (
        table,
        pandas.DataFrame([[1, 2]], columns=["n", "n"], index=index),
        pandas.DataFrame([[1, 2]], columns=["1", 1], index=index),
        pandas.DataFrame({"n": [1], "pod": ["a"]}, index=index).set_index("pod", drop=False),
    ):
        with pytest.raises(heapster.errors.QueryError, match="two columns that are called"):
            writer.append_frame(frame)


def cells(report: heapster.Appended) -> int:
    taken = report.accepted + report.duplicate + report.replaced
    return taken + report.missing + sum(report.refused.values())


def test_a_report_counts_every_cell_once(writer: heapster.Store) -> None:
    times = pyarrow.array([1_000, 1_001, 1_002, 1_003, 5_000, None, 4 * 10**18], pyarrow.timestamp("us"))
    columns = {
        "time": times,
        "pod": ["a", "a", "a", "b", None, "a", "a"],
        "i": pyarrow.array([1, 1, 2, 3, None, 5, 6], pyarrow.uint64()),
        "f": [0.5, 0.5, None, math.nan, 1.0, 2.0, 3.0],
    }
    report = writer.append_frame(pyarrow.table(columns))
    assert cells(report) == 14
    assert (report.accepted, report.duplicate, report.replaced, report.missing) == (5, 2, 1, 2)
    assert report.refused == {"no_time": 2, "time_out_of_range": 2}
    assert report.truncated == 3
    assert len(writer.select("{}")) == report.accepted


@pytest.mark.parametrize("rows", [3, 400_000])
def test_a_report_adds_up_however_far_apart_samples_of_one_moment_are(
    writer: heapster.Store, rows: int
) -> None:
    moments = [number % (rows // 3) for number in range(rows)]
    values = numpy.arange(rows) // 2
    frame = pyarrow.table({"time": pyarrow.array(moments, pyarrow.timestamp("s")), "n": values, "m": values})
    report = writer.append_frame(frame)
    assert cells(report) == 2 * rows
    assert len(writer.select("n")) == len(set(moments)) == report.accepted // 2


def test_a_report_of_an_append_counts_every_cell_once(writer: heapster.Store) -> None:
    report = writer.append([({}, {"n": value}) for value in (1, 2, 2)], START, unit="ms")
    # What it replaced is counted beside the cells.
    assert (report.accepted, report.duplicate, report.replaced) == (2, 1, 1)


def test_labels_with_the_names_of_columns_come_back(writer: heapster.Store) -> None:
    labels = {"time": "noon", "time_": "one", "metric": "a", "value": "b", "value_int": "c"}
    writer.append([(labels, {"n": 1})], START, unit="ms")
    result = writer.select("n")
    assert len(set(result.columns)) == len(result.columns) == 8
    for number, frame in enumerate([result, result.to_arrow(), result.head(1), *result.iter_batches(1)]):
        with heapster.open(f"{writer.path}-{number}", "rw") as copy:
            copy.append_frame(frame)
            assert copy.select("n").series == [{"__name__": "n", **labels}]
    # A column that was renamed since is called as it is now.
    renamed = pyarrow.table(result).rename_columns(
        ["zeit" if name == "time__" else name for name in result.columns]
    )
    with heapster.open(f"{writer.path}-renamed", "rw") as copy:
        copy.append_frame(renamed)
        assert copy.labels("zeit") == ["noon"] and copy.labels("time") == []


def test_labels_that_a_metric_has_of_its_own_stay_such(writer: heapster.Store) -> None:
    node = {"type": "node", "nodename": "n"}
    disk = {**node, "__labeled__": "resource_id", "resource_id": "/"}
    writer.append([(node, {"x": 1}), (disk, {"filesystem/usage": 7})], START, unit="ms")
    result = writer.select("{}")
    assert "__labeled__" not in result.columns
    for number, frame in enumerate([result, result.head(5)]):
        with heapster.open(f"{writer.path}-{number}", "rw") as copy:
            assert copy.append_frame(frame).accepted == 2
            question = ("node:n", "filesystem/usage", "max")
            assert copy.historical(*question, labels={"resource_id": "/"}).item() == 7
            assert len(copy.historical(*question)) == 0
            assert copy.historical("node:n", "x", "max").item() == 1


def test_gaps_of_a_wide_frame_of_pandas_are_no_samples(writer: heapster.Store) -> None:
    writer.append([({"a": "1"}, {"f": math.nan})], START, unit="ms")
    writer.append([({"a": "2"}, {"f": 0.25})], START + 1, unit="ms")
    wide = writer.select("f").to_pandas(wide=True, by="a")
    assert [dtype.name for dtype in wide.dtypes] == ["Float64", "Float64"]
    with heapster.open(f"{writer.path}-copy", "rw") as copy:
        report = copy.append_frame(wide)
        assert (report.accepted, report.missing) == (2, 2)
        assert math.isnan(copy.select("1").item()) and copy.select("2").item() == 0.25


def test_the_name_of_a_metric_is_no_label(writer: heapster.Store) -> None:
    frame = pyarrow.table(
        {"time": pyarrow.array([1], pyarrow.timestamp("s")), "__name__": ["up"], "value": [1]}
    )
    for append in (
        lambda: writer.append_frame(frame),
        lambda: writer.append_frame(frame.drop_columns("__name__"), add={"__name__": "up"}),
        lambda: writer.append([({"__name__": "up"}, {"n": 1})]),
    ):
        with pytest.raises(heapster.errors.QueryError, match="no label"):
            append()
    writer.append_frame(frame, metric="__name__")
    assert writer.select("up").series == [{"__name__": "up"}]


def test_a_label_without_a_name_is_refused(writer: heapster.Store) -> None:
    frame = {"time": ["2026-11-01"], "": ["x"], "n": [1]}
    for append in (
        lambda: writer.append_frame(frame),
        lambda: writer.append([({"": "x"}, {"n": 1})]),
        lambda: writer.append_frame({"time": ["2026-11-01"], "n": [1]}, add={"": "x"}),
    ):
        with pytest.raises(heapster.errors.QueryError, match="has no name"):
            append()


@pytest.mark.parametrize(
    "values",
    [
        numpy.array(["2026-01-01"], "datetime64[ns]"),
        numpy.array([5], "timedelta64[s]"),
        [numpy.datetime64("2026-01-01")],
        [dt.datetime(2026, 1, 1)],
        [[1]],
    ],
    ids=str,
)
def test_what_is_no_number_is_no_value_of_a_mapping(writer: heapster.Store, values: object) -> None:
    with pytest.raises(TypeError, match="neither times, texts nor numbers"):
        writer.append_frame({"time": [1], "n": values}, unit="s")


def test_a_mapping_takes_what_a_frame_does(writer: heapster.Store) -> None:
    columns = {
        "time": [1, None, float("nan"), pandas.NaT, pandas.NA, numpy.datetime64("NaT"), 10**20],
        "n": [numpy.float32(0.5), 1, 1.0, numpy.int8(1), True, None, 2],
    }
    report = writer.append_frame(columns, unit="s")
    assert (report.accepted, report.missing) == (1, 1)
    assert report.refused == {"no_time": 4, "time_out_of_range": 1}
    report = writer.append_frame({"time": [1], "big": [2**64 - 1], "gap": [pandas.NA]}, unit="s")
    assert report.refused == {"value_out_of_range": 1} and report.missing == 1
    with pytest.raises(heapster.errors.QueryError, match="64 bits"):
        writer.append_frame({"time": [1], "n": [2**64]}, unit="s")


@pytest.mark.parametrize(
    "extra",
    [
        pyarrow.array([1], pyarrow.timestamp("s")),
        pyarrow.array([1.0]),
        pyarrow.array([decimal.Decimal("1.5")]),
        pyarrow.array([{"a": 1}]),
        pyarrow.array([[1]]),
        pyarrow.array([b"x"]),
    ],
    ids=lambda array: str(array.type),
)
def test_a_column_that_is_none_of_ours_is_refused(writer: heapster.Store, extra: pyarrow.Array) -> None:
    # Beside `value`, `value_int` is where results have integers that floats cannot hold.
    times = pyarrow.array([1], pyarrow.timestamp("s"))
    frame = pyarrow.table({"time": times, "metric": ["m"], "value": [1.0], "value_int": extra})
    with pytest.raises(heapster.errors.QueryError, match='"value_int" of .* is neither'):
        writer.append_frame(frame)


@pytest.mark.parametrize("column", ["metric", "label"])
@pytest.mark.parametrize(
    "damaged",
    [
        pyarrow.array([b"ok", b"\xff\xfe"], pyarrow.binary()).view(pyarrow.utf8()),
        pyarrow.array([b"ok", b"\xff\xfe"], pyarrow.large_binary()).view(pyarrow.large_utf8()),
        pyarrow.DictionaryArray.from_arrays([0, 7], pyarrow.array(["a"]), safe=False),
        pyarrow.DictionaryArray.from_arrays([0, -1], pyarrow.array(["a"]), safe=False),
        pyarrow.DictionaryArray.from_arrays(
            [0, 1], pyarrow.array([b"ok", b"\xff"], pyarrow.binary()).view(pyarrow.utf8())
        ),
    ],
    ids=["utf8", "large", "key beyond", "key below", "text of a dictionary"],
)
def test_texts_that_are_none_are_refused(
    writer: heapster.Store, column: str, damaged: pyarrow.Array
) -> None:
    times = pyarrow.array([1, 2], pyarrow.timestamp("s"))
    frame = pyarrow.table({"time": times, column: damaged, "value": [1, 2]})
    with pytest.raises(heapster.errors.QueryError, match=f'column "{column}" are damaged'):
        writer.append_frame(frame)
    assert len(writer.select("{}")) == 0


def test_a_slice_of_arrow_is_only_that(writer: heapster.Store) -> None:
    table = pyarrow.table(
        {
            "time": pyarrow.array([1, 2, 3], pyarrow.timestamp("s")),
            "pod": pyarrow.array(["a", None, "c"]).dictionary_encode(),
            "n": [1, None, 3],
        }
    )
    report = writer.append_frame(table.slice(1))
    assert (report.accepted, report.missing) == (1, 1)
    assert writer.select("n").to_dict()["value"] == [3] and writer.labels("pod") == ["c"]


def test_rows_that_are_null_as_a_whole_are_refused(writer: heapster.Store) -> None:
    columns = [pyarrow.array([1, 2], pyarrow.timestamp("s")), pyarrow.array([1, 2])]
    rows = pyarrow.StructArray.from_arrays(columns, ["time", "n"], mask=pyarrow.array([False, True]))
    with pytest.raises(heapster.errors.QueryError, match="null as a whole"):
        writer.append_frame(pyarrow.chunked_array([rows]))
    assert writer.append_frame(pyarrow.chunked_array([rows.slice(0, 1)])).accepted == 1
    with pytest.raises(TypeError, match="not of rows"):
        writer.append_frame(pyarrow.chunked_array([[1, 2]]))


@pytest.mark.parametrize(
    "dtype", ["int64", "boolean", "Int64", "uint64", "int64[pyarrow]", "bool[pyarrow]", "double[pyarrow]"]
)
def test_gaps_of_pandas_are_no_samples(writer: heapster.Store, dtype: str) -> None:
    times = pandas.to_datetime(["2026-11-01", "2026-11-02"])
    has_gap = dtype not in ("int64", "uint64")
    values = pandas.array([1, None if has_gap else 0], dtype)
    report = writer.append_frame(pandas.DataFrame({"time": times, "n": values}))
    assert (report.accepted, report.missing) == ((1, 1) if has_gap else (2, 0))
    assert writer.select("n").to_dict()["value"] == [1] if has_gap else [1, 0]


@pytest.mark.parametrize(
    "dtype", ["timestamp[ns][pyarrow]", "timestamp[us, tz=America/New_York][pyarrow]", "date32[pyarrow]"]
)
def test_pandas_times_of_arrow_are_understood(writer: heapster.Store, dtype: str) -> None:
    noon = pandas.Series(pandas.to_datetime(["2026-11-01T12:00:00Z", None]))
    texts = pandas.array(["a", None], "string[pyarrow]").astype(pandas.ArrowDtype(pyarrow.string()))
    times = noon.dt.date.astype(dtype) if dtype.startswith("date") else noon.astype(dtype)
    if dtype.startswith("timestamp[ns]"):
        times = noon.dt.tz_localize(None).astype(dtype)
    report = writer.append_frame(pandas.DataFrame({"time": times, "pod": texts, "n": [1, 2]}))
    assert report.refused == {"no_time": 1}
    hour = "00" if dtype.startswith("date") else "12"
    assert writer.select("n").to_numpy()["time"][0] == numpy.datetime64(f"2026-11-01T{hour}:00")
    assert writer.labels("pod") == ["a"]


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
@pytest.mark.parametrize("dtype", ["int32", "uint32", "int64", "uint64", "float64"])
def test_numbers_of_any_type_are_times(writer: heapster.Store, library: str, dtype: str) -> None:
    columns = {"time": numpy.array([1_793_534_400], dtype), "n": [1]}
    frame = {"pandas": pandas.DataFrame, "polars": polars.DataFrame, "pyarrow": pyarrow.table}[library](columns)
    with pytest.raises(heapster.errors.QueryError, match="numbers; say of what"):
        writer.append_frame(frame)
    writer.append_frame(frame, unit="s")
    assert writer.select("n").to_numpy()["time"].astype("int64").tolist() == [START]


def test_fractions_and_large_numbers_are_times(writer: heapster.Store) -> None:
    times = [1.0015, -0.5, math.nan, math.inf, 1e300]
    report = writer.append_frame(polars.DataFrame({"time": times, "n": [1] * 5}), unit="s")
    assert (report.accepted, report.truncated) == (2, 1)
    assert report.refused == {"no_time": 1, "time_out_of_range": 2}
    assert writer.select("n").to_numpy()["time"].astype("int64").tolist() == [-500, 1001]
    far = pyarrow.table({"time": pyarrow.array([2**63 + 1, 2**64 - 1], pyarrow.uint64()), "n": [1, 2]})
    assert writer.append_frame(far, unit="ns").refused == {"too_far_ahead": 2}
    assert writer.append_frame(far, unit="s").refused == {"time_out_of_range": 2}


def test_a_unit_beside_times_that_have_one_is_refused(writer: heapster.Store) -> None:
    frame = pyarrow.table({"time": pyarrow.array([1], pyarrow.timestamp("s")), "n": [1]})
    with pytest.raises(heapster.errors.QueryError, match="leave out unit="):
        writer.append_frame(frame, unit="ns")


def test_what_a_generator_of_batches_raises_is_the_cause(writer: heapster.Store) -> None:
    schema = pyarrow.schema([("time", pyarrow.timestamp("s")), ("n", pyarrow.int64())])

    def batches() -> Iterator[pyarrow.RecordBatch]:
        yield pyarrow.record_batch([pyarrow.array([1], schema[0].type), pyarrow.array([1])], schema=schema)
        raise ZeroDivisionError("mine")

    with pytest.raises(heapster.errors.QueryError, match="mine") as caught:
        writer.append_frame(pyarrow.RecordBatchReader.from_batches(schema, batches()))
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_what_is_not_yet_a_frame_says_what_to_call(writer: heapster.Store) -> None:
    with pytest.raises(TypeError, match=r"collect\(\)"):
        writer.append_frame(polars.LazyFrame({"time": [1], "n": [1]}))
    with pytest.raises(TypeError, match=r"to_frame\(\)"):
        writer.append_frame(pandas.Series([1], index=pandas.to_datetime(["2026-11-01"])))
