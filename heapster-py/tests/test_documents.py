"""The examples of the documents, run."""

from __future__ import annotations

import doctest
import importlib
import pathlib
import pkgutil
import re
from typing import Any

import nbclient
import nbformat
import pytest

import heapster
from known import fill

ROOT = pathlib.Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))
MODULES = ["heapster", *(f"heapster.{module.name}" for module in pkgutil.iter_modules(heapster.__path__))]
PAGES = ["README.md", "docs/python.md", "heapster-py/README.md"]


def run_examples(test: doctest.DocTest) -> None:
    """Runs the examples of one place, and tells the first that is not as it says."""
    told: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    runner.run(test, out=told.append, clear_globs=False)
    assert runner.summarize(verbose=False).failed == 0, "".join(told)


@pytest.mark.parametrize("name", [name for name in MODULES if not name.endswith(("__main__", "_heapster"))])
def test_docstrings_are_true(name: str, path: pathlib.Path, tmp_path: pathlib.Path) -> None:
    module = importlib.import_module(name)
    tests = [test for test in doctest.DocTestFinder().find(module) if test.examples]
    with heapster.open(tmp_path / "behind a server", "rw") as served, heapster.open(path) as db:
        fill(served)
        with heapster.serve(served, port=0) as server:
            for test in tests:
                test.globs.update(heapster=heapster, db=db, server=server, tmp=tmp_path)
                run_examples(test)


def test_every_method_has_a_docstring_and_every_question_an_example() -> None:
    for of in (heapster.Database, heapster.Result, heapster.Store):
        for name, member in vars(of).items():
            if callable(member) and not name.startswith("_"):
                assert member.__doc__, f"{of.__name__}.{name}"
    for name in ("query", "query_range", "select", "historical", "entities", "metrics", "labels"):
        assert ">>>" in (getattr(heapster.Database, name).__doc__ or ""), name


def drawn_lines() -> list[Any]:
    """The lines of the figure that was drawn last."""
    from matplotlib import pyplot

    lines = list(pyplot.gca().get_lines())
    pyplot.close("all")
    return lines


def fill_lately(path: pathlib.Path) -> None:
    """CPU of two namespaces in the last hours."""
    with heapster.open(path, "rw") as store:
        for hours in range(5, 0, -1):
            batch = [
                ({"type": "pod", "namespace_name": name, "pod_name": "web"}, {"cpu/usage_rate": hours})
                for name in ("shop", "infra")
            ]
            assert store.append(batch, f"-{hours}h").accepted == 2


@pytest.mark.parametrize("page", PAGES)
def test_the_lines_of_a_page_run_as_printed(
    page: str, path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ROOT / page).read_text()
    blocks = re.findall(r"```(?:python|pycon)\n(.*?)```", text, re.S)
    assert blocks, f"{page} has no Python"
    # The pages open the directory "data", as `make run` calls it.
    (path.parent / "data").symlink_to(path)
    if page == "README.md":
        fill_lately(path)
    monkeypatch.chdir(path.parent)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    names: dict[str, object] = {}
    with heapster.open(path.parent / "served", "rw") as served:
        fill(served)
        with heapster.serve(served, port=0) as server:
            for block in blocks:
                block = block.replace("http://127.0.0.1:8082", server.url)
                if ">>>" in block:
                    test = doctest.DocTestParser().get_doctest(block, names, page, page, 0)
                    run_examples(test)
                    names.update(test.globs)
                else:
                    exec(compile(block, page, "exec"), names)
    if page == "README.md":
        assert [len(line.get_xdata()) > 0 for line in drawn_lines()] == [True, True]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_top_to_bottom(
    notebook: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # With what it makes itself, which it knows the answer to.
    monkeypatch.delenv("NEZHA_PODS", raising=False)
    cells = nbformat.read(notebook, as_version=4)
    assert all(not cell.get("outputs") for cell in cells.cells), "it is kept without outputs"
    client = nbclient.NotebookClient(
        cells, timeout=240, kernel_name="python3", resources={"metadata": {"path": notebook.parent}}
    )
    client.execute()
    outputs = [output for cell in cells.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in outputs), "it draws nothing"
    warned = [output.text for output in outputs if output.get("name") == "stderr"]
    assert warned == []


def test_there_are_notebooks() -> None:
    assert {path.stem for path in NOTEBOOKS} >= {"first_steps", "right_sizing", "anomaly_hunt"}
