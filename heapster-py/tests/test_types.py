"""The types that are promised are those there are."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import heapster

PROJECT = pathlib.Path(__file__).resolve().parents[1]


def run(*command: str) -> None:
    answer = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_the_package_says_that_it_has_types() -> None:
    assert (pathlib.Path(heapster.__file__).parent / "py.typed").exists()


def test_the_stubs_are_those_of_the_binary() -> None:
    run("mypy.stubtest", "heapster._heapster")


def test_the_package_is_sound_under_strict_types() -> None:
    config = str(PROJECT / "pyproject.toml")
    run("mypy", "--config-file", config, "-p", "heapster")


def test_a_users_types_are_found(tmp_path: pathlib.Path) -> None:
    script = tmp_path / "user.py"
    script.write_text(
        "import heapster\n"
        "from typing import assert_type\n"
        "with heapster.open('data') as db:\n"
        "    assert_type(db, heapster.Store)\n"
        "    assert_type(db.query('up'), heapster.Result)\n"
        "    assert_type(db.labels(), list[str])\n"
        "with heapster.connect('http://x') as remote:\n"
        "    assert_type(remote, heapster.Remote)\n"
    )
    run("mypy", "--strict", str(script))
