"""What a step costs: wall time and peak memory, written into its mark when it is finished."""

from __future__ import annotations

import json
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import psutil

INTERVAL = 0.2  # seconds between two looks at this process's memory


@contextmanager
def measure_cost():
    """Give a dict that holds, once the block has ended, `seconds`, `memory_gb` and `device` of what ran in it.

    `memory_gb` is the highest memory seen, in 10^9 bytes: on a CPU what the process occupied (the loaded model and all else that it
    held before, looked at every INTERVAL seconds), on a GPU what torch had allocated there.
    """
    cost: dict = {}
    process, done = psutil.Process(), threading.Event()
    seen = [process.memory_info().rss]

    def look():
        while not done.wait(INTERVAL):
            seen.append(max(seen.pop(), process.memory_info().rss))

    # Not imported here: what needs no model starts faster without it.
    torch, start = sys.modules.get("torch"), time.perf_counter()
    gpu = torch is not None and torch.cuda.is_available()
    if gpu:
        torch.cuda.reset_peak_memory_stats()
    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield cost
    finally:
        done.set()
        watcher.join()
        peak = torch.cuda.max_memory_allocated() if gpu else max(*seen, process.memory_info().rss)
        cost |= {
            "seconds": round(time.perf_counter() - start, 1), "memory_gb": round(peak / 1e9, 2),
            "device": "cuda" if gpu else "cpu" + (f", {torch.get_num_threads()} threads" if torch else ""),
        }  # fmt: skip


def tabulate_costs(folders: dict[tuple[str, ...], Path], names: list[str]) -> pd.DataFrame:
    """Costs of finished steps; for showing and for RESULTS.md, not for the tables of a run: wall time is never the same twice.

    Parameters
    ----------
    folders : dict
        Whatever tells the steps apart (as many values as `names`) to the step's folder.

    Returns
    -------
    DataFrame
        `*names, minutes, memory (GB), device, note`; minutes are of the whole step, loading the model and validation included, and of
        the last sitting alone where `note` says so. Empty values where a step was brought from elsewhere without its cost.
    """
    rows = []
    for names_of, folder in folders.items():
        cost = json.loads((folder / "step.json").read_text(encoding="utf-8")).get("cost", {})
        minutes = cost["seconds"] / 60 if cost else None
        rows.append([*names_of, minutes, cost.get("memory_gb"), cost.get("device", ""), cost.get("note", "")])
    return pd.DataFrame(rows, columns=[*names, "minutes", "memory (GB)", "device", "note"])
