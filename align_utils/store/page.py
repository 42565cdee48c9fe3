"""The notebook's page: tables, figures, metrics and the manifest that knows where they come from."""

from __future__ import annotations

import json
import subprocess
from functools import cache
from importlib.metadata import distributions
from pathlib import Path

import pandas as pd

from align_utils.config.profiles import Config, describe, load, save_resolved
from align_utils.store.ledger import list_made, list_read, open_ledger
from align_utils.store.steps import hash_file, write_atomic

VERSIONED = ("torch", "transformers", "trl", "peft", "pandas", "numpy", "matplotlib")
METRIC_FIELDS = (
    "metric", "model", "culture", "stage", "language", "value", "low", "high", "n", "unit", "seed", "data",
    "subset", "persona", "decoding", "method",
)  # fmt: skip


class Page:
    """A notebook's page: its settings, and all that it shows, stored with what it was made from.

    Every file that was read through `store` since the page was opened is an input of what the page shows from then on.

    Parameters
    ----------
    notebook : str
        Name of the notebook, such as `04_lexical_alignment`; its number begins the names of tables, figures and metrics.
    cfg : Config
        The run.
    """

    def __init__(self, notebook: str, cfg: Config):
        self.notebook, self.cfg = notebook, cfg
        self.sentences: list[str] = []
        open_ledger()

    def __str__(self) -> str:
        return describe(self.cfg)

    def show_table(self, frame: pd.DataFrame, name: str, caption: str = "") -> pd.DataFrame:
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
        paths = [_write_text(self.cfg.figures / f"{name}.{suffix}", text) for suffix, text in texts.items()]
        self._enter(paths, caption=caption)
        return frame

    def show_figure(self, figure, name: str, caption: str = "", *, model: str | None = None):
        """Write a figure as png, svg and pdf without dates, so that the same run gives the same bytes; enter the manifest.

        Parameters
        ----------
        figure : matplotlib.figure.Figure
        model : str, optional
            Of a figure that is drawn once a model: the files of the run's first have the plain name, the others' end in theirs.

        Returns
        -------
        matplotlib.figure.Figure
        """
        import matplotlib

        name = name if model in (None, *list(self.cfg.models)[:1]) else f"{name}_{model}"
        undated = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None, "ModDate": None}}
        for suffix, metadata in undated.items():
            with (
                matplotlib.rc_context({"svg.hashsalt": name}),
                write_atomic(self.cfg.figures / f"{name}.{suffix}") as temporary,
            ):
                figure.savefig(temporary, metadata=metadata)
        self._enter([self.cfg.figures / f"{name}.{suffix}" for suffix in undated], caption=caption)
        return figure

    def say(self, *sentences: str) -> None:
        """Print sentences made from this run's numbers and keep them for `close`."""
        self.sentences += sentences
        print(*sentences, sep="\n")

    def gather_metrics(self, records: list[dict]) -> pd.DataFrame:
        """The run's metric records so far (`load_metrics`), with `records` in the place of this notebook's.

        Raises
        ------
        ValueError
            A record has a field outside METRIC_FIELDS, or no metric or value.
        """
        number = self.notebook[:2]
        earlier = load_metrics(self.cfg)
        own = pd.DataFrame(
            [{"notebook": number, **record} for record in self._complete(records)], columns=["notebook", *METRIC_FIELDS]
        )
        parts = [part for part in (earlier[earlier["notebook"] != number], own) if len(part)]
        return (
            pd.concat(parts, ignore_index=True).sort_values("notebook", kind="stable", ignore_index=True) if parts else earlier
        )

    def close(self, records: list[dict]) -> None:
        """Write `metrics/NN.json` and the page's sentences; enter both, and the frames and adapters made, in the manifest.

        Parameters
        ----------
        records : list of dict
            Flat records with the fields METRIC_FIELDS; null where one does not apply.

        Raises
        ------
        ValueError
            A record has a field outside METRIC_FIELDS, or no metric or value.
        """
        number, texts = self.notebook[:2], {"metrics": self._complete(records), "sentences": self.sentences}
        paths = [
            _write_text(self.cfg.runs / kind / f"{number}.json", json.dumps(content, indent=1, ensure_ascii=False) + "\n")
            for kind, content in texts.items()
        ]
        made = [path for path in list_made() if path.exists() and path.is_relative_to(self.cfg.runs)]
        self._enter([*made, *paths])

    def _complete(self, records: list[dict]) -> list[dict]:
        full = []
        for record in records:
            unknown = set(record) - set(METRIC_FIELDS)
            if unknown or "metric" not in record or "value" not in record:
                raise ValueError(f"metric record {record}: unknown fields {sorted(unknown)}, or 'metric' or 'value' missing")
            known = {"seed": self.cfg.profile.seed, "data": self.cfg.profile.data, **record}
            full.append({field: _plain(known.get(field)) for field in METRIC_FIELDS})
        return full

    def _enter(self, paths: list[Path], *, caption: str = "") -> None:
        cfg = self.cfg
        sources = [
            {"path": name_path(cfg, path), "sha256": _hash_known(path, path.stat().st_mtime_ns)}
            for path in list_read() if path.is_file() and path not in paths
        ]  # fmt: skip
        entries = {entry["path"]: entry for entry in load_manifest(cfg)}
        for path in paths:
            entries[name_path(cfg, path)] = {
                "path": name_path(cfg, path), "sha256": hash_file(path), "notebook": self.notebook, "caption": caption,
                "inputs": sources, "profile": cfg.profile.name, "seed": cfg.profile.seed, "commit": _find_commit(cfg.root),
                "versions": _list_versions(),
            }  # fmt: skip
        ordered = [entries[key] for key in sorted(entries)]
        _write_text(cfg.runs / "manifest.json", json.dumps(ordered, indent=1, ensure_ascii=False) + "\n")


def open_page(notebook: str, profile: str) -> Page:
    """Load a profile (`config.load` says what can go wrong), save it as resolved beside the results, and open the notebook's page."""
    cfg = load(profile)
    save_resolved(cfg)
    pd.set_option("display.max_colwidth", None)  # a table is read in the notebook: nothing in its cells is cut
    return Page(notebook, cfg)


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


def name_path(cfg: Config, path: Path) -> str:
    """A file of the run as it is written down: from the project, the output folder or the data on, never by a path of the machine."""
    if not cfg.is_sample and path.is_relative_to(cfg.data_dir):
        return f"ALIGN_DATA/{path.relative_to(cfg.data_dir)}"
    return str(path.relative_to(cfg.output if path.is_relative_to(cfg.output) else cfg.root))


@cache
def _find_commit(root: Path) -> str:
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


@cache
def _list_versions() -> dict[str, str]:
    installed = {part.metadata["Name"].lower(): part.version for part in distributions()}
    return {name: installed.get(name, "absent") for name in VERSIONED}


def _plain(value):
    if value is None or isinstance(value, str | bool | int):
        return value
    if hasattr(value, "item"):
        value = value.item()
    return None if value != value else round(value, 10) if isinstance(value, float) else value


def _write_text(path: Path, text: str) -> Path:
    with write_atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


@cache
def _hash_known(path: Path, changed: int) -> str:
    # Large inputs stand behind many tables of a page: they are hashed once as long as they do not change.
    return hash_file(path)
