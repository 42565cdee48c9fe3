"""The notebook's page: tables, figures, metrics and the manifest that knows where they come from."""

import json
import re
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

import pandas as pd
from IPython.display import Markdown, display

from align_utils.config.profiles import Config, load, save_resolved, take_main_line
from align_utils.store.steps import MADE, READ, hash_file, note_read, write_atomic
from align_utils.store.tables import lay_out

# Rows and columns that a table shows: in an appendix, and in the main line.
LIMITS = ((40, 10), (12, 6))
BOLD = re.compile(r"\*\*(.+?)\*\*")

VERSIONED = ("torch", "transformers", "trl", "peft", "pandas", "numpy", "matplotlib")
METRIC_FIELDS = (
    "metric", "model", "culture", "stage", "language", "value", "low", "high", "n", "unit", "seed", "data",
    "subset", "persona", "decoding", "method",
)  # fmt: skip


@dataclass(frozen=True)
class Sentence:
    """A statement about this run with the metric records that its numbers are of; its key names what it is about."""

    key: str
    text: str
    records: list[dict]


class Page:
    """A notebook's page: its settings, and all that it shows, stored with what it was made from.

    Every file that was read through `store` since the page was opened is an input of what the page shows from then on. The
    number in the name of the notebook, such as `04_lexical_alignment`, begins the names of its tables, figures and metrics.
    """

    def __init__(self, notebook: str, cfg: Config):
        self.notebook, self.cfg = notebook, cfg
        self.sentences: list[Sentence] = []
        READ.clear()
        MADE.clear()

    def __str__(self) -> str:
        cfg = self.cfg
        data = "bundled sample (made up, watermarked)" if cfg.is_sample else "the reader's own files"
        return f"{', '.join(cfg.models)} · {data} · seed {cfg.profile.seed} · profile {cfg.profile.name}"

    def show_table(
        self, frame: pd.DataFrame, name: str, caption: str = "", *, rows: Sequence[str] = (), columns: Sequence[str] = (),
        form: str = ".2f", keep: str = "", empty: str = "",
    ):  # fmt: skip
        """Write a tidy frame whole as `<name>.csv`, and its short form as `.md` and `.tex`; enter them in the manifest.

        `rows, columns, form` are of `lay_out`, which makes the short form of the rows that the query `keep` picks: a notebook
        of the main line shows 12 rows and 6 columns of it, an appendix 40 and 10. `empty` stands in the place of a short form
        without rows. Returns the short form as Markdown, so that a cell can end with the call and show it.
        """
        path = self.cfg.figures / f"{name}.csv"
        shown = frame.query(keep) if keep else frame
        most, widest = LIMITS[self.notebook[0].isdigit()]
        note = empty or f"Nothing to show in this run: {caption or name}."
        if len(shown):
            shown = lay_out(shown, rows=rows, columns=columns, form=form, names=self.cfg.names)
            sizes = zip(shown.shape, (most, widest), ("rows", "columns"), strict=True)
            left = [f"{size - limit} more {what}" for size, limit, what in sizes if size > limit]
            note = f"*{' and '.join(left)} in `{name_path(self.cfg, path)}`*" if left else ""
            shown = shown.iloc[:most, :widest]
        table = shown.to_markdown(index=False, disable_numparse=True) + "\n" if len(shown) else ""
        tex = BOLD.sub(r"\\textbf{\1}", shown.to_latex(index=False, escape=True))
        texts = {"csv": frame.to_csv(index=False, lineterminator="\n"), "md": table or note, "tex": tex}
        self._enter([_write_text(path.with_suffix(f".{suffix}"), text) for suffix, text in texts.items()], caption=caption)
        return Markdown(f"{table}\n{note}" if caption == "" or not table else f"{table}\n{note}\n\n*{caption}*")

    def show_figure(self, figure, name: str):
        """Write a matplotlib figure as png, svg and pdf without dates, so that the same run gives the same bytes; returns it."""
        import matplotlib

        undated = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None, "ModDate": None}}
        for suffix, metadata in undated.items():
            with (
                matplotlib.rc_context({"svg.hashsalt": name}),
                write_atomic(self.cfg.figures / f"{name}.{suffix}") as temporary,
            ):
                figure.savefig(temporary, metadata=metadata)
        self._enter([self.cfg.figures / f"{name}.{suffix}" for suffix in undated])
        return figure

    def say(self, *sentences: Sentence) -> None:
        """Show sentences made from this run's numbers, and keep them for `close`, the README and the site."""
        self.sentences += sentences
        display(Markdown("\n>\n".join(f"> {sentence.text}" for sentence in sentences)))

    def gather_metrics(self, records: list[dict]) -> pd.DataFrame:
        """The run's metric records so far (`load_metrics`), with `records` in the place of this notebook's; ValueError as `close`."""
        return _tabulate_metrics({**_read_metrics(self.cfg, but=self.notebook[:2]), self.notebook[:2]: self._complete(records)})

    def close(self, records: list[dict]):
        """Write `metrics/NN.json` and the page's sentences; enter both, and the frames and adapters made, in the manifest.

        `records` are flat, with the fields METRIC_FIELDS, null where one does not apply; a ValueError names a record with
        another field, or without a metric or value. Returns the sentences that the page has said as Markdown, for its end.
        """
        told = [{**vars(sentence), "records": self._complete(sentence.records)} for sentence in self.sentences]
        number, texts = self.notebook[:2], {"metrics": self._complete(records), "sentences": told}
        paths = [
            _write_text(self.cfg.runs / kind / f"{number}.json", json.dumps(content, indent=1, ensure_ascii=False) + "\n")
            for kind, content in texts.items()
        ]
        made = [path for path in sorted(MADE) if path.exists() and path.is_relative_to(self.cfg.runs)]
        self._enter([*made, *paths])
        return Markdown("\n".join(f"- {sentence.text}" for sentence in self.sentences))

    def _complete(self, records: list[dict]) -> list[dict]:
        for record in records:
            if not {"metric", "value"} <= set(record) <= set(METRIC_FIELDS):
                unknown = sorted(set(record) - set(METRIC_FIELDS))
                raise ValueError(f"metric record {record}: unknown fields {unknown}, or 'metric' or 'value' missing")
        full = [{"seed": self.cfg.profile.seed, "data": self.cfg.profile.data, **record} for record in records]
        return [{field: _plain(record.get(field)) for field in METRIC_FIELDS} for record in full]

    def _enter(self, paths: list[Path], *, caption: str = "") -> None:
        cfg = self.cfg
        sources = [
            {"path": name_path(cfg, path), "sha256": _hash_known(path, path.stat().st_mtime_ns)}
            for path in sorted(READ) if path.is_file() and path not in paths
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
    """Load a profile (`config.load` says what can go wrong), save it as resolved beside the results, and open the notebook's page.

    A notebook of the main line, `01` to `06`, gets the run without what only the appendix `A1` to `A6` computes.
    """
    cfg = load(profile)
    save_resolved(cfg)
    cfg = take_main_line(cfg) if notebook[0].isdigit() else cfg
    pd.set_option("display.max_colwidth", None)  # a table is read in the notebook: nothing in its cells is cut
    return Page(notebook, cfg)


def list_records(frame: pd.DataFrame, metric: str, **constants) -> list[dict]:
    """Turn a summary frame into metric records: its columns that are METRIC_FIELDS, the constants, and the metric's name."""
    kept = [column for column in frame.columns if column in METRIC_FIELDS]
    return [{**constants, **row, "metric": metric} for row in frame[kept].to_dict("records")]


def pick_record(records: Iterable[dict], metric: str, **fields) -> dict | None:
    """The one metric record with these fields; None without any, ValueError for several."""
    fields["metric"] = metric
    found = [record for record in records if all(record.get(key) == value for key, value in fields.items())]
    if len(found) > 1:
        raise ValueError(f"{len(found)} records of {metric} with {fields}: name more fields")
    return found[0] if found else None


def load_metrics(cfg: Config) -> pd.DataFrame:
    """All metric records of the run so far, one row each (empty frame if none)."""
    return _tabulate_metrics(_read_metrics(cfg))


def _read_metrics(cfg: Config, *, but: str = "") -> dict[str, list[dict]]:
    paths = sorted((cfg.runs / "metrics").glob("[0-9A][0-9].json"))
    return {path.stem: json.loads(note_read(path).read_text(encoding="utf-8")) for path in paths if path.stem != but}


def _tabulate_metrics(parts: dict[str, list[dict]]) -> pd.DataFrame:
    rows = [{"notebook": number, **record} for number in sorted(parts) for record in parts[number]]
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
    return {name: version(name) for name in VERSIONED}


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
