"""Costly steps: keys, atomic writes, resuming, what a step costs, and errors that say what to do."""

import errno
import hashlib
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pandas as pd
import psutil
from tqdm import tqdm

# A quota and a limit on file sizes read to the user like a full disk.
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# safetensors and torch write from Rust and C++: their errors carry no number, torch's (the last two) not even a reason.
FULL_WORDS = (
    "No space left on device", "Disk quota exceeded", "File too large", "PytorchStreamWriter failed", "unexpected pos",
)  # fmt: skip
# torch.OutOfMemoryError is a RuntimeError with the first of these words, its CPU allocator's error one with the second.
MEMORY_WORDS = ("out of memory", "can't allocate memory", "not enough memory", "CUBLAS_STATUS_ALLOC_FAILED")
KEPT_SO_FAR = "Finished steps and whole checkpoints are kept: the same command goes on from there."
# Written by a step into its folder, if there is something to say of its cost; it goes into the mark.
NOTE = "cost-note.txt"
# What differs from one run to the next although the results are the same.
CLOCKS = {"step.json", "times.csv"}
INTERVAL = 0.2  # seconds between two looks at this process's memory
# What the notebook has read and made since its page was opened.
READ: set[Path] = set()
MADE: set[Path] = set()


class MissingInput(FileNotFoundError):
    """What a notebook needs has not been made yet."""


class StepError(RuntimeError):
    """A costly step cannot start or go on; the message names the setting or folder."""


class ModelError(StepError):
    """A model cannot be had: package absent, files damaged, or too little memory or disk."""


class TrainingError(StepError):
    """Training cannot start or has gone wrong; the message names the setting or file."""


def note_read(path: Path) -> Path:
    """Count a file among the inputs of all that the page shows from now on; returns it. Every reader of a data file calls this."""
    return _note(path, READ)


def note_made(path: Path) -> Path:
    """Count a frame or an adapter's folder among what this notebook made; returns it."""
    return _note(path, MADE)


def _note(path: Path, ledger: set[Path]) -> Path:
    # Unfinished steps lie in hidden folders: they are nobody's input.
    if not any(part.startswith(".") for part in path.parts[:-1]):
        ledger.add(path.resolve())
    return path


def read_frame(path: Path, *, made_by: str) -> pd.DataFrame:
    """Read a parquet or csv of the run; it counts among the page's inputs. MissingInput names the notebook that makes it."""
    note_read(require(path, made_by=made_by))
    return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, keep_default_na=False)


def require(path: Path, *, made_by: str) -> Path:
    """Return `path` if it exists, else raise MissingInput naming the notebook that makes it."""
    if not path.exists():
        raise MissingInput(
            f"{path} does not exist yet: run notebook {made_by} first (`make {made_by[:2]}`; if make calls it up to date: `make clean`)"
        )
    return path


def save_frame(frame: pd.DataFrame, path: Path) -> Path:
    """Write a frame atomically, as parquet or csv by its suffix."""
    with write_atomic(path) as temporary:
        if path.suffix == ".parquet":
            frame.to_parquet(temporary, index=False)
        else:
            frame.to_csv(temporary, index=False, lineterminator="\n")
    return note_made(path)


@contextmanager
def write_atomic(path: Path):
    """Give a temporary path beside `path`; rename it into place only when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def hash_file(path: Path) -> str:
    """SHA-256 of a file; of a folder, the hash over its files' names and hashes, without CLOCKS."""
    if path.is_dir():
        files = [p for p in sorted(path.rglob("*")) if p.is_file() and p.name not in CLOCKS]
        parts = [f"{p.relative_to(path)}:{hash_file(p)}" for p in files]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def hash_settings(settings: dict) -> str:
    """First 16 hex digits of the SHA-256 of a JSON-like mapping, independent of the order of its keys.

    >>> hash_settings({"a": 1, "b": 2}) == hash_settings({"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(json.dumps(settings, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:16]


def find_step(folder: Path, settings: dict) -> bool:
    """Whether `folder` holds a finished step made with exactly these settings (its `step.json` is written last)."""
    mark = folder / "step.json"
    return mark.is_file() and json.loads(mark.read_text(encoding="utf-8"))["key"] == hash_settings(settings)


def name_work(folder: Path, settings: dict) -> Path:
    """Folder in which a step is made before it is put in place; hidden. What begins with `.<name>-` goes when the step is finished."""
    return folder.with_name(f".{folder.name}-{hash_settings(settings)}")


@contextmanager
def make_step(folder: Path, settings: dict, *, remedy: str = "close other programs", kind: type[Exception] = StepError):
    """Give an empty work folder for a costly step; put it in place, marked finished, only when the block succeeds.

    `folder` is the final place: a step of other settings there is replaced at the end. `settings` are all that the result
    depends on: data hashes, base model, settings, version of the step's code. The mark also holds the step's cost
    (`measure_cost`). `remedy, kind` are for where memory or disk run out inside the block (`explain`).
    """
    work, old = name_work(folder, settings), folder.with_name(f".{folder.name}-old")
    with explain(f"step {'/'.join(folder.parts[-4:])}", folder=folder.parent, remedy=remedy, kind=kind):
        # What a killed run left here is not gone on with: a step cannot tell a whole file from half a one.
        for rest in (work, old):
            if rest.exists():
                shutil.rmtree(rest)
        work.mkdir(parents=True)
        with measure_cost() as cost:
            yield work
        note = work / NOTE
        if note.is_file():
            cost["note"] = note.read_text(encoding="utf-8")
            note.unlink()
        mark = {"key": hash_settings(settings), "settings": settings, "cost": cost}
        (work / "step.json").write_text(json.dumps(mark, indent=1, ensure_ascii=False, sort_keys=True), encoding="utf-8")
        # Moved aside whole: half deleted, with its mark still there, it would be taken for finished under its own settings.
        if folder.exists():
            folder.replace(old)
        work.replace(folder)
        for stale in folder.parent.glob(f".{folder.name}-*"):
            shutil.rmtree(stale)


@contextmanager
def measure_cost():
    """Give a dict that holds, once the block has ended, `seconds`, `memory_gb` and `device` of what ran in it.

    `memory_gb` is the highest memory seen, in 10^9 bytes: on a CPU what the process occupied (the loaded model and all else that it
    held before, looked at every INTERVAL seconds), on a GPU what torch had allocated there.
    """
    process, done, cost = psutil.Process(), threading.Event(), {}
    seen = [process.memory_info().rss]

    def look():
        while not done.wait(INTERVAL):
            seen.append(process.memory_info().rss)

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


def progress(iterable=None, **options) -> tqdm:
    """A progress bar (tqdm's options) on the terminal: a headless run shows it there and keeps it out of the executed notebook.

    The runner has the variable ALIGN_PROGRESS hold the number of the file that leads to its own terminal.
    """
    if number := os.environ.get("ALIGN_PROGRESS"):
        options |= {"file": _open_terminal(int(number)), "dynamic_ncols": False}
    return tqdm(iterable, **options)


@cache
def _open_terminal(number: int):
    return os.fdopen(number, "w", encoding="utf-8", buffering=1, closefd=False)


@contextmanager
def explain(what: str, *, folder: Path, remedy: str, kind: type[Exception] = StepError):
    """Turn memory or a disk used up inside the block into one clear error of `kind`; every other error passes as it is.

    `what` begins the message, `folder` is where the block writes, `remedy` what to do where memory is short.
    """
    try:
        yield
    except StepError:
        raise
    except Exception as error:
        reason = _find_reason(error)
        if reason is None:
            raise
        detail = str(error).strip().split("\n")[0][:200] or type(error).__name__
        if reason == "memory":
            raise kind(f"{what}: out of memory; {remedy}. {KEPT_SO_FAR} ({detail})") from error
        raise kind(
            f"{what}: the disk of {folder} is full, or a quota or limit on file sizes is reached; make room. {KEPT_SO_FAR} ({detail})"
        ) from error


def _find_reason(error: BaseException | None) -> str | None:
    while error is not None:
        text = str(error)
        if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(word in text for word in MEMORY_WORDS)):
            return "memory"
        if (isinstance(error, OSError) and error.errno in FULL) or any(word in text for word in FULL_WORDS):
            return "disk"
        error = error.__cause__ or error.__context__
    return None


def require_space(
    what: str, folder: Path, size: float, *, remedy: str = "make room", kind: type[Exception] = StepError
) -> None:
    """Stop before the work begins where the disk of `folder` (which need not exist yet) has fewer than `size` bytes free."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if free < size:
        raise kind(f"{what}: {folder} needs {_format(size)} free, and its disk has {_format(free)}: {remedy}")


def _format(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
