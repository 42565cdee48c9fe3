"""The numbers of README.md and RESULTS.md: every block between markers is rewritten from a profile's figures, by nothing else."""

from __future__ import annotations

import json
import re
import sys
from functools import partial
from pathlib import Path

import pandas as pd

from align_utils.config.profiles import PACKAGE_ROOT, read_profile
from align_utils.store.steps import tabulate_costs
from align_utils.training.tables import SIGNS

BLOCK = re.compile(r"(<!-- begin (\w+) -->\n).*?(<!-- end \2 -->)", re.DOTALL)
# The text and the profile whose figures it is made of. Of a run on real files aggregates alone may be shown: no word, no item.
SAMPLE, REAL = ("README.md", "cpu"), ("RESULTS.md", "cpu_real")
UNPUBLISHED = "*Not published yet: `make reproduce`, then `make publish`.*"
# Places that every notebook uses say nothing about where a figure comes from.
COMMON = {"config", "plots", "stats", "store"}
# What the columns of notebook 06 are called in a text.
RENAMED = {"culture": "norms of", "language": "asked in"}


def rewrite(text: str, root: Path, profile: str = SAMPLE[1]) -> str:
    """The text with every marked block made anew; before any run of the profile the result blocks say so.

    A block stays as it is where what fills it (`make ablation`, `make bench`) has not run on this machine.

    Raises
    ------
    FileNotFoundError
        `figures/<profile>` is there but lacks a table: `make reproduce` makes them.
    KeyError
        A block's name is unknown.
    """
    folder = root / "figures" / profile

    def fill(match: re.Match) -> str:
        # Times and races are no matter of a run.
        made = BLOCKS[match[2]](folder) if folder.is_dir() or match[2] in {"times", "races"} else UNPUBLISHED
        return match[0] if made is None else f"{match[1]}{made.strip()}\n{match[3]}"

    return BLOCK.sub(fill, text)


def _spread(
    folder: Path, table: str, rows: list[str], column: str, form: str = "+.3f", *, keep: str = "", value: str = "value",
    p: bool = False, names: dict[str, str] | None = None,
) -> str:  # fmt: skip
    """A wide table: a row for each combination of `rows`, a column for each value of `column` (of `names` alone, so called)."""
    frame = _read(folder, table)
    frame = frame.query(keep) if keep else frame
    names = names or {name: name for name in frame[column]}
    frame = frame.assign(**{column: frame[column].map(names)}).dropna(subset=column)
    shown = _bracket(frame, form, value) if form else frame[value]
    if p:
        shown = [f"{text}, p {p:.3f}" for text, p in zip(shown, frame["p_holm"], strict=True)]
    wide = frame.assign(shown=shown).pivot(index=rows, columns=column, values="shown")
    wide = wide.reindex(pd.MultiIndex.from_frame(frame[rows].drop_duplicates()))[list(names.values())]
    return _print(wide.fillna("").reset_index().rename(columns=RENAMED if table.startswith("tab06") else {}))


def _spread_both(folder: Path, table: str, rows: list[str], column: str, *, keep: str = "", **options) -> str:
    """What each stage does, and below it the differences between stages."""
    means = _spread(folder, table, ["culture", "stage", *rows], column, ".2f", **options)
    gaps = f"{table}_differences"
    return f"{means}\n\n{_spread(folder, gaps, ['culture', 'comparison', *rows], column, p=True, keep=keep, **options)}"


def _precision(folder: Path) -> str:
    frame = _read(folder, "tab04_precision_at_5").query("subset == 'all'")
    counts = frame.groupby("culture")["n"].transform("max")
    ns = [f" (n={n:.0f})" for n in frame["n"]]
    frame["shown"] = _bracket(frame, ".2f") + pd.Series(ns, frame.index).where(frame["n"] != counts, "")
    frame["column"] = frame["culture"] + [f" (n={n:.0f}), " for n in counts] + frame["reading"]
    wide = frame.pivot(index="stage", columns="column", values="shown").reindex(list(dict.fromkeys(frame["stage"])))
    return _print(wide[sorted(wide.columns, reverse=True)].fillna("").reset_index())


def _differences(folder: Path) -> str:
    frame = _read(folder, "tab04_differences").query("reading == 'attested' and subset == 'all'")
    frame = frame.assign(**{"difference in P@5": _bracket(frame, "+.2f"), "p (Holm)": frame["p_holm"].map("{:.3f}".format)})
    return _print(frame[["culture", "comparison", "difference in P@5", "n", "p (Holm)"]])


def _methods(folder: Path) -> str:
    shown = ["culture", "stage", "updates", "chosen update", "valid reward", "gain", "KL", *SIGNS]
    return _read(folder, "tab03_methods")[shown].to_markdown(index=False, floatfmt=".3f", intfmt="d")


def _tried(folder: Path) -> str | None:
    frame = pd.concat([_read(folder, name) for name in ("tab02_ablation", "tab03_ablation")], ignore_index=True)
    if "attested_gap" not in frame:
        return None
    frame = frame.dropna(subset="attested")
    frame["difference"] = _bracket(frame, "+.3f", "attested_gap").where(frame["attested_gap"].notna(), "reference")
    frame["P@5"] = frame["attested"].map("{:.3f}".format)
    return _print(frame[["culture", "stage", "variant", "changes", "P@5", "difference"]])


def _nearer(folder: Path) -> str:
    frame, by = (
        _read(folder, "tab06_nearer").query("persona == 'none'").rename(columns=RENAMED),
        ["norms of", "stage", "asked in"],
    )
    counts = [f"{count:g} of {n:.0f}" for count, n in zip(frame["count"], frame["n"], strict=True)]
    frame["shown"] = counts + _bracket(frame, ".2f").str.replace(r"^\S+", "", regex=True)
    frame["p"] = [f"{p:.2f}" if p == p else "" for p in frame["p_holm"]]
    readings = {name: part.set_index(by)[["shown", "p"]] for name, part in frame.groupby("reading")}
    both = readings["nearer"].join(readings["mode"], rsuffix=" ")
    return _print(both.set_axis(["nearer to China", "p", "China's modal answer", "p "], axis=1).reset_index())


def _asking(folder: Path) -> str:
    by, quality = ["adapter", "stage", "language"], ["option mass", "refusal mass", "entropy"]
    bias = ["spread", "spread PriDe", "first order to average", "PriDe to average"]
    asked = _read(folder, "tab05_answer_quality").query("readout == 'label' and persona == 'none'")[[*by, *quality]]
    both = asked.merge(_read(folder, "tab05_position_bias").query("persona == 'none'")[[*by, *bias]], on=by)
    return both.to_markdown(index=False, floatfmt=".3f")


def _paper(folder: Path) -> str:
    frame = _read(folder, "tab06_paper")
    interval = _bracket(frame.assign(value=0), ".2f").str.removeprefix("0.00 ").where(frame["low"].notna(), "")
    frame = frame.assign(interval=interval, n=[f"{n:.0f}" if n == n else "" for n in frame["n"]])
    return frame[["claim", "paper", "ours", "interval", "n", "data", "model", "verdict"]].to_markdown(index=False)


def _costs(folder: Path) -> str:
    runs = folder.parent.parent / "runs" / folder.name
    # In the order in which they were trained.
    marks = sorted(runs.glob("adapters/*/*/*/seed-*/step.json"), key=lambda mark: (mark.parts[-4], mark.stat().st_mtime))
    seed = json.loads(marks[0].read_text(encoding="utf-8"))["settings"]["seed"]
    trained = {mark.parts[-4:-2]: mark.parent for mark in marks if mark.parent.name == f"seed-{seed}"}
    asked = {(mark.parent.name,): mark.parent for mark in sorted(runs.glob("steps/survey/*_label/step.json"))}
    table, survey = tabulate_costs(trained, ["norms of", "stage"]), tabulate_costs(asked, ["step"])
    table = table.drop(columns="device").assign(note=table["note"].fillna(""))
    return (
        f"{table.to_markdown(index=False, floatfmt=('', '', '.1f', '.1f'))}\n\nThe survey by label: {survey['minutes'].mean():.1f} "
        f"minutes an answerer ({len(survey)} answerers, both languages, all orders)."
    )


def _races(folder: Path) -> str | None:
    path = folder.parent.parent / "runs" / "bench.json"
    if not path.is_file():
        return None
    frame = pd.DataFrame(json.loads(path.read_text(encoding="utf-8")))
    frame["equal"] = frame["equal"].map({True: "yes", False: "no"})
    frame = frame[["race", "ratio", "target", "ours_s", "baseline_s", "ours_mb", "baseline_mb", "equal", "baseline"]]
    return _print(frame.astype(object).where(frame.notna(), ""))


def _times(folder: Path) -> str:
    rows, root = [], folder.parent.parent
    for path in sorted((root / "notebooks" / "settings" / "profiles").glob("*.yaml")):
        profile = read_profile(path.stem, root=root)
        if profile.budget_minutes:
            total = f"{sum(profile.budget_minutes.values()):.0f}"
            rows.append([path.stem, profile.description, ", ".join(profile.models), total])
    return pd.DataFrame(rows, columns=["profile", "what it is", "model", "minutes on 2 cores"]).to_markdown(index=False)


def _figures(folder: Path) -> str:
    rows = []
    for path in sorted(path for path in folder.iterdir() if path.suffix in {".png", ".csv"}):
        notebook = next((folder.parent.parent / "notebooks").glob(f"{path.stem[3:5]}_*.ipynb"))
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        imported = re.search(r"from align_utils import ([\w, ]+)", "".join(line for cell in cells for line in cell["source"]))[
            1
        ]
        places = ", ".join(name for name in imported.split(", ") if name not in COMMON)
        figure = f"[{path.stem}](figures/{folder.name}/{path.name})"
        rows.append([figure, f"[{notebook.stem}](notebooks/{notebook.name})", places])
    return pd.DataFrame(rows, columns=["figure or table", "notebook", "places"]).to_markdown(index=False)


def _bracket(frame: pd.DataFrame, form: str, value: str = "value") -> pd.Series:
    """A column with its interval, such as '0.41 [0.35, 0.48]'."""
    columns = [value, "low", "high"] if value == "value" else [value, f"{value}_low", f"{value}_high"]
    rows = frame[columns].itertuples(index=False)
    return pd.Series(
        [f"{estimate:{form}} [{low:{form}}, {high:{form}}]" for estimate, low, high in rows], frame.index, dtype=str
    )


def _print(frame: pd.DataFrame) -> str:
    return frame.to_markdown(index=False, disable_numparse=True)


def _read(folder: Path, name: str) -> pd.DataFrame:
    path = folder / f"{name}.csv"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: `make reproduce PROFILE={folder.name}` makes it, then `make publish`")
    return pd.read_csv(path)


DRAWN = {"attested_share": "given by people", "js_distance": "distance", "distinct_gap": "distinct beyond people's"}
STAGE = ["culture", "stage"]
PLAIN, MAIN = "persona == 'none'", "stage in ('ppo', 'uniform', 'other_country', 'human_half')"
NO_CONTROL = "not comparison.str.contains('control')"
PICTURE = "![Precision@K of every stage on the bundled sample](figures/{}/fig04_precision_at_k.png)"
# What fills a block, from the folder of figures.
BLOCKS = {
    "picture": lambda folder: PICTURE.format(folder.name),
    "times": _times,
    "precision": _precision,
    "differences": _differences,
    "methods": _methods,
    "tried": _tried,
    "drawn": partial(_spread_both, table="tab04_population", rows=[], column="measure", keep=NO_CONTROL, names=DRAWN),
    "lists": partial(_spread_both, table="tab04_drawn", rows=["n"], column="reading"),
    "cost": partial(_spread, table="tab04_fluency", rows=STAGE, column="language", keep="stage != 'zero_shot'", value="cost"),
    "asking": _asking,
    "shifts": partial(_spread, table="tab06_shift", rows=[*STAGE, "language"], column="toward", keep=f"{PLAIN} and {MAIN}"),
    "stages": partial(_spread, table="tab06_shift", rows=[*STAGE, "language"], column="toward", keep=PLAIN),
    "controls": partial(
        _spread,
        table="tab06_controls",
        rows=["culture", "comparison"],
        column="language",
        keep=f"{PLAIN} and toward == 'target'",
    ),
    "nearer": _nearer,
    "claims": partial(_spread, table="tab06_claims", rows=STAGE, column="language", form="", keep=PLAIN, value="claimed"),
    "costs": _costs,
    "races": _races,
    "paper": _paper,
    "figures": _figures,
}


def main() -> int:
    """`python -m align_utils.run.publish`: rewrite README.md in place, and RESULTS.md where its profile has run."""
    for name, profile in (SAMPLE, REAL):
        if profile == SAMPLE[1] or (PACKAGE_ROOT / "figures" / profile).is_dir():
            path = PACKAGE_ROOT / name
            path.write_text(rewrite(path.read_text(encoding="utf-8"), PACKAGE_ROOT, profile), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
