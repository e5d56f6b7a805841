"""Results on their way to other libraries."""

from __future__ import annotations

import datetime as dt
import pickle
import subprocess
import sys

import duckdb
import numpy
import pandas
import polars
import pyarrow
import pytest

import heapster
from known import GIB, START

NOON = "2026-11-01T12:00:00Z"


@pytest.fixture
def samples(db: heapster.Store) -> heapster.Result:
    """Two series of six integers."""
    return db.select("memory/usage")


def test_pandas_gets_integers_categories_and_aware_times(samples: heapster.Result) -> None:
    frame = samples.to_pandas()
    assert list(frame.columns) == ["time", "metric", "namespace_name", "pod_name", "type", "value"]
    assert frame["value"].dtype == numpy.int64
    assert isinstance(frame["pod_name"].dtype, pandas.CategoricalDtype)
    assert frame["time"].dt.tz is dt.timezone.utc or str(frame["time"].dt.tz) == "UTC"
    assert frame.groupby("pod_name", observed=True)["value"].max().to_dict() == {
        "db-0": 2 * GIB + 5,
        "web-1": GIB + 5,
    }
    frame.loc[0, "value"] = 1
    assert samples.to_dict()["value"][0] == 2 * GIB, "a frame is a copy that may be written to"


def test_pandas_gets_a_column_for_each_series(samples: heapster.Result) -> None:
    frame = samples.to_pandas(wide=True, by="pod_name")
    assert frame.index.name == "time" and str(frame.index.tz) == "UTC"
    assert list(frame.columns) == ["db-0", "web-1"]
    assert frame["web-1"].dtype == numpy.int64
    assert frame["web-1"].tolist() == [GIB + minute for minute in range(6)]


def test_polars_gets_categories(samples: heapster.Result) -> None:
    frame = samples.to_polars()
    assert isinstance(frame.schema["pod_name"], polars.Categorical)
    assert frame.schema["time"] == polars.Datetime("ms", "UTC")
    assert frame.schema["value"] == polars.Int64
    assert frame["pod_name"].cast(polars.String).unique().sort().to_list() == ["db-0", "web-1"]
    assert polars.DataFrame(samples).equals(frame)


def test_polars_needs_no_pyarrow(path: object) -> None:
    script = (
        "import sys\n"
        "sys.modules['pyarrow'] = None\n"
        "import heapster, polars\n"
        "result = heapster.open(sys.argv[1]).select('memory/usage')\n"
        "print(result.to_polars().shape, polars.DataFrame(result).shape)\n"
    )
    command = [sys.executable, "-c", script, str(path)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert answer.stdout == "(12, 6) (12, 6)\n"


def test_arrow_gets_dictionaries(samples: heapster.Result) -> None:
    table = samples.to_arrow()
    assert table.schema.field("time").type == pyarrow.timestamp("ms", "UTC")
    assert table.schema.field("pod_name").type == pyarrow.dictionary(pyarrow.int32(), pyarrow.utf8())
    table.validate(full=True)
    assert pyarrow.table(samples).equals(table)


def test_an_arrow_stream_can_be_asked_for_again(samples: heapster.Result) -> None:
    assert pyarrow.table(samples).equals(pyarrow.table(samples))
    batch = pyarrow.table(samples).column("value").chunk(0)
    again = pyarrow.table(samples).column("value").chunk(0)
    assert batch.buffers()[1].address == again.buffers()[1].address, "they share their memory"


def test_an_arrow_table_outlives_its_store(db: heapster.Store) -> None:
    table = db.select("memory/usage").to_arrow()
    db.close()
    assert table.column("value").to_pylist()[:2] == [2 * GIB, 2 * GIB + 1]


def test_duckdb_finds_a_result_by_its_name(samples: heapster.Result) -> None:
    found = duckdb.sql("select pod_name, max(value) from samples group by 1 order by 1").fetchall()
    assert found == [("db-0", 2 * GIB + 5), ("web-1", GIB + 5)]


def test_numpy_gets_arrays_of_its_own(samples: heapster.Result) -> None:
    arrays = samples.to_numpy()
    assert arrays["time"].dtype == numpy.dtype("datetime64[ms]")
    assert arrays["time"][0] == numpy.datetime64("2026-11-01T12:00:00")
    assert arrays["value"].dtype == numpy.int64
    assert arrays["pod_name"][[0, -1]].tolist() == ["db-0", "web-1"]
    arrays["value"][0] = 7
    assert samples.to_numpy()["value"][0] == 2 * GIB


def test_gaps_are_gaps_everywhere(writer: heapster.Store) -> None:
    writer.append([({"a": "1"}, {"n": 1}), ({"b": "2"}, {"n": 2})], START, unit="ms")
    writer.append([({"a": "1"}, {"n": 3})], START + 1000, unit="ms")
    result = writer.select("n")
    assert result.to_dict()["a"] == ["1", "1", None]
    assert result.to_polars()["a"].null_count() == 1
    assert result.to_pandas()["a"].isna().tolist() == [False, False, True]
    assert result.to_numpy()["a"].tolist() == ["1", "1", None]
    wide = result.wide(by="b")
    assert wide.to_dict()["2"] == [2, None]
    assert wide.to_pandas()["2"].dtype == pandas.Int64Dtype()
    assert wide.to_numpy()["2"].mask.tolist() == [False, True]
    assert wide.to_polars()["2"].to_list() == [2, None]


def test_integers_stay_exact_beside_floats(writer: heapster.Store) -> None:
    large = 2**53 + 1
    writer.append([({}, {"i": large, "f": 0.5})], START, unit="ms")
    alone = writer.select("i")
    assert alone.to_dict()["value"] == [large] and alone.item() == large
    both = writer.select("{}").to_dict()
    assert both["metric"] == ["f", "i"]
    assert both["value"] == [0.5, 2.0**53]
    assert both["value_int"] == [None, large]
    assert writer.select("{}").wide().to_dict()["i"] == [large]


def test_small_integers_beside_floats_are_floats(writer: heapster.Store) -> None:
    writer.append([({}, {"i": 3, "f": 0.5})], START, unit="ms")
    both = writer.select("{}").to_dict()
    assert both["value"] == [0.5, 3.0] and "value_int" not in both


def test_columns_that_would_have_the_same_name_stay_apart(writer: heapster.Store) -> None:
    writer.append([({"time": "noon", "value": "x"}, {"n": 1})], START, unit="ms")
    result = writer.select("n")
    assert result.columns == ["time", "metric", "time_", "value_", "value"]
    assert result.wide(by="time").columns == ["time", "noon"]
    writer.append([({"time": "time", "value": "y"}, {"n": 1})], START, unit="ms")
    assert len(set(writer.select("n").wide(by="time").columns)) == 3


def test_labels_that_are_asked_for_are_the_columns(db: heapster.Store) -> None:
    result = db.select("memory/usage", labels=["pod_name"])
    assert result.columns == ["time", "metric", "pod_name", "value"]


def test_a_large_result_comes_in_pieces(samples: heapster.Result) -> None:
    pieces = [piece.to_arrow() for piece in samples.iter_batches(5)]
    assert [piece.num_rows for piece in pieces] == [5, 5, 2]
    assert pyarrow.concat_tables(pieces).column("value").to_pylist() == samples.to_dict()["value"]


def test_an_empty_result_has_its_columns(db: heapster.Store) -> None:
    empty = db.select("nothing")
    assert not empty and len(empty) == 0
    assert empty.to_pandas().columns.tolist() == ["time", "value"]
    assert empty.to_polars().shape == (0, 2)
    assert empty.wide().columns == ["time"]
    assert "0 series" in repr(empty) and "0 series" in empty._repr_html_()


def test_a_notebook_shows_a_picture_of_each_series(db: heapster.Store) -> None:
    shown = db.query_range("memory_usage", NOON, "2026-11-01T12:05:00Z", "1m")._repr_html_()
    assert shown.count("<polyline") == 2
    assert "<td>db-0</td>" in shown and "last (bytes)" in shown


def test_labels_are_text_in_a_notebook(writer: heapster.Store) -> None:
    writer.append([({"a": "<script>"}, {"n": 1})], START, unit="ms")
    assert "<script>" not in writer.select("n")._repr_html_()
    assert "<script>" not in writer.query("n", at=NOON)._repr_html_()


def test_a_long_result_is_shown_in_part(writer: heapster.Store) -> None:
    for second in range(100):
        writer.append([({}, {"n": second})], START + second * 1000, unit="ms")
    lines = repr(writer.select("n")).splitlines()
    assert len(lines) == 13 and lines[0] == "Result: samples of 1 series with 100 samples"
    assert lines[7].startswith("…")


def test_plots_have_the_unit_on_their_axis(db: heapster.Store) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    memory = db.query_range("memory_usage", NOON, "2026-11-01T12:05:00Z", "1m")
    axes = memory.plot(title="memory")
    assert axes.get_ylabel() == "bytes" and axes.get_title() == "memory"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["db-0", "web-1"]
    axes.figure.canvas.draw()
    assert any("Gi" in label.get_text() for label in axes.get_yticklabels())
    bars = db.query("memory_usage", at=NOON).plot()
    assert len(bars.patches) == 2 and bars.get_xlabel() == "bytes"
    buckets = db.historical("namespace:shop/pod:db-0", "memory/usage", ["min", "max"], "1m").plot()
    assert [line.get_label() for line in buckets.get_lines()] == ["min", "max"]
    assert db.query_range("memory_usage", NOON, NOON, "1m").plot(unit="s").get_ylabel() == "s"
    pyplot.close("all")


def test_a_package_that_is_missing_is_named(path: object) -> None:
    script = (
        "import sys, heapster\n"
        "for name in ('numpy', 'pandas', 'polars', 'pyarrow', 'matplotlib'):\n"
        "    sys.modules[name] = None\n"
        "result = heapster.open(sys.argv[1]).select('memory/usage')\n"
        "for exit in (result.to_pandas, result.to_polars, result.to_arrow, result.to_numpy, result.plot):\n"
        "    try:\n"
        "        exit()\n"
        "    except ImportError as error:\n"
        "        print(type(error).__name__, str(error).rsplit(': ')[-1])\n"
        "print(len(result.to_dict()['value']), len(result._repr_html_()) > 100)\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True
    )
    packages = ("pandas", "polars", "pyarrow", "numpy", "matplotlib")
    lines = [f"MissingPackageError pip install {name}" for name in packages]
    assert answer.stdout.splitlines() == [*lines, "12 True"]


def test_gaps_are_none_of_the_values_of_pandas(writer: heapster.Store) -> None:
    writer.append([({"a": "1"}, {"f": 0.5}), ({"a": "2"}, {"f": float("nan")})], START, unit="ms")
    writer.append([({"a": "1"}, {"f": 1.5})], START + 1, unit="ms")
    frame = writer.select("f").to_pandas(wide=True, by="a")
    assert frame["1"].dtype == numpy.float64
    assert frame["2"].dtype == pandas.Float64Dtype() and frame["2"].iloc[1] is pandas.NA
    assert numpy.isnan(frame["2"].to_numpy("float64", na_value=0.0)).tolist() == [True, False]


def test_every_column_of_a_label_has_a_name_of_its_own(writer: heapster.Store) -> None:
    labels = {"time": "a", "time_": "b", "time__": "c", "value_int": "d"}
    writer.append([(labels, {"x": 1})], START, unit="ms")
    result = writer.select("x")
    row = {name: values[0] for name, values in result.to_dict().items()}
    assert {row[name] for name in ("time_", "time__", "time___", "value_int_")} == {"a", "b", "c", "d"}
    assert (row["time_"], row["time__"]) == ("b", "c"), "those that can keep their names do"
    assert result.to_polars().shape == (1, 7)
    assert writer.select("x", labels=["time_", "time_"]).columns == ["time", "metric", "time_", "value"]


def test_series_that_look_alike_have_columns_of_their_own(writer: heapster.Store) -> None:
    plain = {"disk": "a"}
    writer.append([(plain, {"x": 1}), ({**plain, "__labeled__": "disk"}, {"x": 2})], START, unit="ms")
    wide = writer.select("x").wide()
    assert wide.columns == ["time", 'x{disk="a"}', 'x{disk="a"}_'] and wide.to_polars().shape == (1, 3)


@pytest.mark.parametrize("label", ["app.kubernetes.io/name", "a b", "ü", "plain"])
def test_the_name_of_a_series_is_a_selector_that_finds_it(writer: heapster.Store, label: str) -> None:
    for metric in ("up", "cpu/usage"):
        labels = {label: 'x"\\\n\t\u2028', "other": "y"}
        writer.append([(labels, {metric: 1}), ({}, {metric: 2})], START, unit="ms")
        (series,) = [one for one in writer.select(metric).series if label in one]
        name = next(one for one in writer.select(metric).wide().columns if "other" in one)
        assert writer.select({**series}).series == [series]
        assert writer.query(name, at=START, unit="ms").item() == 1
        if metric == "up":
            assert writer.select(name).series == [series]


def test_the_one_value_is_found_wherever_it_is(db: heapster.Store, writer: heapster.Store) -> None:
    entity = "namespace:shop/pod:db-0"
    assert db.historical(entity, "memory/usage", "max").item() == 2 * GIB + 5
    with pytest.raises(heapster.errors.QueryError, match="2: min, max"):
        db.historical(entity, "memory/usage", ["min", "max"]).item()
    with pytest.raises(heapster.errors.QueryError, match="there are 12"):
        db.select("memory/usage").item()
    writer.append([({}, {"f": 0.5, "i": 2**53 + 1})], START, unit="ms")
    both = writer.select("{}")
    assert [piece.item() for piece in both.iter_batches(1)] == [0.5, 2**53 + 1]


def test_what_cannot_be_drawn_or_pickled_says_so(db: heapster.Store) -> None:
    with pytest.raises(heapster.errors.QueryError, match="nothing to draw"):
        db.entities().plot()
    with pytest.raises(TypeError, match="to_pandas"):
        pickle.dumps(db.select("memory/usage"))


def test_pieces_have_the_warnings_of_the_whole(samples: heapster.Result) -> None:
    samples.warnings.append("beware")
    assert all(piece.warnings == ["beware"] for piece in samples.iter_batches(5))
    assert samples.head().warnings == samples.wide().warnings == ["beware"]


def test_many_series_are_shown_without_all_of_their_labels(writer: heapster.Store) -> None:
    count = 5_000
    writer.append([({"n": str(number)}, {"x": number}) for number in range(count)], START, unit="ms")
    result = writer.select("x")
    assert repr(result).startswith("Result: samples of 5,000 series with 5,000 samples")
    assert "… 4,990 more" in result._repr_html_()
    assert len(result.series) == count and len({one["n"] for one in result.series}) == count
    assert len(result.wide().columns) == count + 1


def test_each_row_of_a_large_result_has_its_labels(writer: heapster.Store) -> None:
    series, moments = 50, 2_400
    times = pandas.date_range("2026-11-01", periods=moments, freq="s", tz="UTC")
    frame = pandas.DataFrame(
        {
            "time": list(times) * series,
            "pod": numpy.repeat([f"p{number}" for number in range(series)], moments),
            "even": numpy.repeat([str(number % 2) for number in range(series)], moments),
            "third": numpy.repeat([str(number % 3) for number in range(series)], moments),
            "x": numpy.repeat(numpy.arange(series), moments),
        }
    )
    report = writer.append_frame(frame, labels=["pod", "even", "third"], time="time")
    assert report.accepted == series * moments
    found = writer.select("x").to_polars()
    number = found["value"].cast(polars.String)
    assert len(found) == series * moments
    assert (found["pod"].cast(polars.String) == "p" + number).all()
    for label, divisor in (("even", 2), ("third", 3)):
        assert (found[label].cast(polars.String) == (found["value"] % divisor).cast(polars.String)).all()


def test_a_wide_result_is_shown_in_part(writer: heapster.Store) -> None:
    row = {f"metric_{number:03}": number for number in range(300)}
    writer.append([({"n": "1"}, row)], START, unit="ms")
    wide = writer.select("{n='1'}").wide()
    assert len(wide.columns) == 301
    _, names, values = repr(wide).splitlines()
    assert 100 < len(names) <= 160 and names.startswith("time") and "metric_299" in names
    assert values.split()[-1] == "299" and "…" in names.split() and "metric_150" not in names
    page = wide._repr_html_()
    assert page.count("<th>") == 21 and "metric_008" in page and "metric_290" in page


def test_a_long_line_is_cut_only_where_columns_are_left_out(writer: heapster.Store) -> None:
    for count in (1, 2, 3):
        row = {"a" * 150 + str(number): number for number in range(count)}
        writer.append([({"n": str(count)}, row)], START, unit="ms")
        wide = writer.select(f"{{n='{count}'}}").wide()
        header = repr(wide).splitlines()[1]
        assert len(wide.columns) == count + 1
        assert header.count("aaa" * 50) == 1 and ("…" in header) == (count > 1)
