"""A process that reads the directory of a server which collects from this machine: does it see new data,
what do 1,000 refreshes leave behind, and what does the server notice?

    beside_a_server.py
"""

from __future__ import annotations

import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

import heapster

REFRESHES = 1000


def status(process: int | str) -> tuple[int, int]:
    """Resident kilobytes and open files."""
    folder = pathlib.Path(f"/proc/{process}")
    pages = int((folder / "statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024, len(os.listdir(folder / "fd"))


def own_metrics(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    found = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in found}


def main() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "heapster", "serve", f"--data-dir={folder}"]
        command += [f"--heapster-port={port}", "--metric-resolution=5s", "--log-level=warn"]
        server = subprocess.Popen(command)
        try:
            reader = None
            while reader is None:
                time.sleep(0.5)
                try:
                    reader = heapster.open(folder)
                except heapster.errors.NotAStoreError:
                    continue
            while not reader.select("cpu/usage"):
                time.sleep(0.5)
                reader.refresh()
            before = len(reader.select("cpu/usage"))
            print(f"opened beside the server: {before} samples of cpu/usage")
            for warm in range(50):
                reader.refresh()
                reader.query("sum(cpu_usage)")
            own, theirs = status("self"), status(server.pid)
            news = 0
            for _ in range(REFRESHES):
                news += reader.refresh().has_news
                reader.query("sum(cpu_usage)")
                time.sleep(0.02)
            print(f"{REFRESHES} refreshes, {news} with news: {len(reader.select('cpu/usage'))} samples")
            now = status("self")
            print(f"reader: {own[0]:,} to {now[0]:,} kB resident, {own[1]} to {now[1]} files")
            metrics = own_metrics(port)
            rounds = {name: value for name, value in metrics.items() if "collector_rounds" in name}
            later = status(server.pid)
            print(f"server: {theirs[1]} to {later[1]} files, rounds {rounds}")
            asked = heapster.connect(f"http://127.0.0.1:{port}").query("count(cpu_usage)").item()
            print(f"server answers: {asked:g} series of cpu/usage")
        finally:
            server.terminate()
            print("server ended with", server.wait())


if __name__ == "__main__":
    main()
