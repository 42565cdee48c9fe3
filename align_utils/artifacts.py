"""Files of a run: atomic writes, hashes, cached steps, metrics and the manifest."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pandas as pd

from align_utils.config import Config
from align_utils.costs import measure_cost
from align_utils.failures import StepError, explain

VERSIONED = ("torch", "transformers", "trl", "peft", "pandas", "numpy", "matplotlib")
METRIC_FIELDS = (
    "metric", "model", "culture", "stage", "language", "value", "low", "high", "n", "unit", "seed", "data",
    "subset", "persona", "decoding", "method",
)  # fmt: skip


# Written by a step into its folder, if there is something to say of its cost; it goes into the mark.
NOTE = "cost-note.txt"
# What differs from one run to the next although the results are the same.
CLOCKS = {"step.json", "times.csv"}


class MissingInput(FileNotFoundError):
    """A stage's input has not been made yet."""


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

    Examples
    --------
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

    Parameters
    ----------
    folder : Path
        Final place of the step. A step of other settings there is replaced at the end.
    settings : dict
        Everything the result depends on: data hashes, base model, settings, version of the step's code. The mark also holds the
        step's cost (`costs.measure_cost`).
    remedy, kind
        Where memory or disk run out inside the block (`failures.explain`).
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


def read_frame(path: Path, *, made_by: str) -> pd.DataFrame:
    """Read a stage's parquet or csv.

    Raises
    ------
    MissingInput
        The file does not exist; the message names the notebook that makes it.
    """
    require(path, made_by=made_by)
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
    return path


def save_table(cfg: Config, frame: pd.DataFrame, name: str, *, section: str, inputs: Iterable[Path] = ()) -> pd.DataFrame:
    """Write `<name>.csv`, `.md` and `.tex` into the figures folder and enter them in the manifest.

    Returns
    -------
    DataFrame
        The same frame, so that a notebook cell can end with the call and show it.
    """
    shown = frame.astype(object).where(frame.notna(), "")
    texts = {
        "csv": frame.to_csv(index=False, lineterminator="\n"),
        "md": shown.to_markdown(index=False, floatfmt=".3f") + "\n",
        "tex": shown.to_latex(index=False, float_format="%.3f", escape=True),
    }
    for suffix, text in texts.items():
        path = cfg.figures / f"{name}.{suffix}"
        with write_atomic(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    _enter(cfg, [cfg.figures / f"{name}.{suffix}" for suffix in texts], section=section, inputs=inputs)
    return frame


def save_figure(cfg: Config, figure, name: str, *, section: str, inputs: Iterable[Path] = (), model: str | None = None):
    """Write a figure as png, svg and pdf without dates, so that the same run gives the same bytes; enter the manifest.

    Parameters
    ----------
    model : str, optional
        Of a figure that is drawn once a model: the files of the run's first have the plain name, the others' end in theirs.

    Returns
    -------
    matplotlib.figure.Figure
    """
    import matplotlib

    name = name if model in (None, *list(cfg.models)[:1]) else f"{name}_{model}"
    undated = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None, "ModDate": None}}
    for suffix, metadata in undated.items():
        path = cfg.figures / f"{name}.{suffix}"
        with matplotlib.rc_context({"svg.hashsalt": name}), write_atomic(path) as temporary:
            figure.savefig(temporary, metadata=metadata)
    _enter(cfg, [cfg.figures / f"{name}.{suffix}" for suffix in undated], section=section, inputs=inputs)
    return figure


def save_metrics(cfg: Config, records: list[dict], notebook: str, *, inputs: Iterable[Path] = ()) -> Path:
    """Write `metrics/NN.json`: flat records with the fields METRIC_FIELDS, null where one does not apply.

    Raises
    ------
    ValueError
        A record has a field outside METRIC_FIELDS, or no metric or value.
    """
    full = []
    for record in records:
        unknown = set(record) - set(METRIC_FIELDS)
        if unknown or "metric" not in record or "value" not in record:
            raise ValueError(f"metric record {record}: unknown fields {sorted(unknown)}, or 'metric' or 'value' missing")
        known = {"seed": cfg.profile.seed, "data": cfg.profile.data, **record}
        full.append({field: _plain(known.get(field)) for field in METRIC_FIELDS})
    path = cfg.runs / "metrics" / f"{notebook[:2]}.json"
    with write_atomic(path) as temporary:
        temporary.write_text(json.dumps(full, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    _enter(cfg, [path], section="metrics", inputs=inputs)
    return path


def list_records(frame: pd.DataFrame, metric: str, **constants) -> list[dict]:
    """Turn a summary frame into metric records: its columns that are METRIC_FIELDS, the constants, and the metric's name."""
    kept = [column for column in frame.columns if column in METRIC_FIELDS]
    return [{**constants, **row, "metric": metric} for row in frame[kept].to_dict("records")]


def load_metrics(cfg: Config) -> pd.DataFrame:
    """All metric records of the run so far, one row each (empty frame if none)."""
    paths = sorted((cfg.runs / "metrics").glob("[0-9][0-9].json"))
    rows = [{"notebook": p.stem, **r} for p in paths for r in json.loads(p.read_text(encoding="utf-8"))]
    return pd.DataFrame(rows, columns=["notebook", *METRIC_FIELDS])


def load_manifest(cfg: Config) -> list[dict]:
    """Entries of `runs/<profile>/manifest.json` (an empty list before the first artefact)."""
    path = cfg.runs / "manifest.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []


def enter_artefact(cfg: Config, path: Path, *, section: str, inputs: Iterable[Path] = ()) -> None:
    """Enter a stage's output (frame, adapter folder) in the manifest."""
    _enter(cfg, [path], section=section, inputs=inputs)


def _enter(cfg: Config, paths: list[Path], *, section: str, inputs: Iterable[Path]) -> None:
    notebook = os.environ.get("ALIGN_NOTEBOOK", "interactive")
    sources = [{"path": name_path(cfg, p), "sha256": hash_file(p)} for p in sorted(set(inputs))]
    entries = {entry["path"]: entry for entry in load_manifest(cfg)}
    for path in paths:
        entries[name_path(cfg, path)] = {
            "path": name_path(cfg, path), "sha256": hash_file(path), "notebook": notebook, "section": section,
            "inputs": sources, "profile": cfg.profile.name, "seed": cfg.profile.seed, "commit": _commit(cfg.root),
            "versions": _versions(),
        }  # fmt: skip
    with write_atomic(cfg.runs / "manifest.json") as temporary:
        ordered = [entries[key] for key in sorted(entries)]
        temporary.write_text(json.dumps(ordered, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def name_path(cfg: Config, path: Path) -> str:
    """A file of the run as it is written down: from the project, the output folder or the data on, never by a path of the machine."""
    if not cfg.is_sample and path.is_relative_to(cfg.data_dir):
        return f"ALIGN_DATA/{path.relative_to(cfg.data_dir)}"
    return str(path.relative_to(cfg.output if path.is_relative_to(cfg.output) else cfg.root))


def _commit(root: Path) -> str:
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def _versions() -> dict[str, str]:
    found = {}
    for name in VERSIONED:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


def _plain(value):
    if value is None or isinstance(value, str | bool | int):
        return value
    if hasattr(value, "item"):
        value = value.item()
    return None if value != value else round(value, 10) if isinstance(value, float) else value
