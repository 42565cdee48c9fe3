"""The numbers of README.md and RESULTS.md: every block between markers is rewritten from a profile's figures, by nothing else."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pandas as pd

from align_utils.config.profiles import PACKAGE_ROOT, read_profile
from align_utils.store.steps import tabulate_costs
from align_utils.training.tables import SIGNS

BLOCK = re.compile(r"(<!-- begin (\w+) -->\n).*?(<!-- end \2 -->)", re.DOTALL)
# The text and the profile whose figures it is made of. Of a run on real files aggregates alone may be shown: no word, no item.
SAMPLE, REAL = ("README.md", "cpu"), ("RESULTS.md", "cpu_real")
UNPUBLISHED = "*Not published yet: `make reproduce`, then `make publish`.*"
# Blocks that are no matter of a run.
OF_ROOT = {"times", "races"}
# Rooms that every notebook uses say nothing about where a figure comes from.
COMMON = {"artifacts", "config", "models", "pairs", "plots", "stages", "stats"}


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
        make = BLOCKS[match[2]] if folder.is_dir() or match[2] in OF_ROOT else lambda _: UNPUBLISHED
        made = make(root if match[2] in OF_ROOT else folder)
        return match[0] if made is None else f"{match[1]}{made.strip()}\n{match[3]}"

    return BLOCK.sub(fill, text)


def _precision(folder: Path) -> str:
    frame = _read(folder, "tab04_precision_at_5").query("subset == 'all'")
    counts = frame.groupby("culture")["n"].max()
    frame["shown"] = [
        f"{row.value:.2f} [{row.low:.2f}, {row.high:.2f}]" + ("" if row.n == counts[row.culture] else f" (n={row.n:.0f})")
        for row in frame.itertuples()
    ]
    frame["column"] = frame["culture"].map(lambda name: f"{name} (n={counts[name]:.0f})") + ", " + frame["reading"]
    wide = frame.pivot(index="stage", columns="column", values="shown").reindex(list(dict.fromkeys(frame["stage"])))
    return wide[sorted(wide.columns, reverse=True)].fillna("").reset_index().to_markdown(index=False)


def _differences(folder: Path) -> str:
    frame = _read(folder, "tab04_differences").query("reading == 'attested' and subset == 'all'")
    frame["difference in P@5"] = [f"{row.value:+.2f} [{row.low:+.2f}, {row.high:+.2f}]" for row in frame.itertuples()]
    frame["p (Holm)"] = [f"{p:.3f}" for p in frame["p_holm"]]
    return frame[["culture", "comparison", "difference in P@5", "n", "p (Holm)"]].to_markdown(
        index=False, disable_numparse=True
    )


def _methods(folder: Path) -> str:
    frame = _read(folder, "tab03_methods")
    shown = ["culture", "stage", "updates", "chosen update", "valid reward", "gain", "KL", *SIGNS]
    return frame[shown].to_markdown(index=False, floatfmt=".3f", intfmt="d")


def _tried(folder: Path) -> str | None:
    frames = [_read(folder, name) for name in ("tab02_ablation", "tab03_ablation")]
    frames = [frame for frame in frames if "attested_gap" in frame]
    if not frames:
        return None
    frame = pd.concat(frames, ignore_index=True)
    gap = [f"{row.attested_gap:+.3f} [{row.attested_gap_low:+.3f}, {row.attested_gap_high:+.3f}]" for row in frame.itertuples()]
    frame["difference"] = [
        text if known else "reference" for text, known in zip(gap, frame["attested_gap"].notna(), strict=True)
    ]
    frame["P@5"] = frame["attested"].map("{:.3f}".format)
    return frame[["culture", "stage", "variant", "changes", "P@5", "difference"]].to_markdown(
        index=False, disable_numparse=True
    )


def _drawn(folder: Path) -> str:
    shown = {"attested_share": "given by people", "js_distance": "distance", "distinct_gap": "distinct beyond people's"}
    means = _read(folder, "tab04_population")
    means["shown"] = [f"{row.value:.2f} [{row.low:.2f}, {row.high:.2f}]" for row in means.itertuples()]
    gaps = _read(folder, "tab04_population_differences").query("not comparison.str.contains('control')")
    gaps["shown"] = [f"{row.value:+.3f} [{row.low:+.3f}, {row.high:+.3f}], p {row.p_holm:.3f}" for row in gaps.itertuples()]
    parts = []
    for frame, row in ((means, "stage"), (gaps, "comparison")):
        chosen = pd.concat([frame[frame["measure"] == measure].assign(measure=name) for measure, name in shown.items()])
        parts.append(_spread(chosen, ["culture", row], "measure", "shown"))
    return "\n\n".join(parts)


def _lists(folder: Path) -> str:
    means, gaps = (_read(folder, name) for name in ("tab04_drawn", "tab04_drawn_differences"))
    means["shown"] = [f"{row.value:.2f} [{row.low:.2f}, {row.high:.2f}]" for row in means.itertuples()]
    gaps["shown"] = [f"{row.value:+.3f} [{row.low:+.3f}, {row.high:+.3f}], p {row.p_holm:.3f}" for row in gaps.itertuples()]
    return "\n\n".join(
        _spread(frame, ["culture", row, "n"], "reading", "shown") for frame, row in ((means, "stage"), (gaps, "comparison"))
    )


def _cost(folder: Path) -> str:
    frame = _read(folder, "tab04_fluency")
    frame["shown"] = [f"{row.cost:+.3f} [{row.cost_low:+.3f}, {row.cost_high:+.3f}]" for row in frame.itertuples()]
    return _spread(frame.query("stage != 'zero_shot'"), ["culture", "stage"], "language", "shown")


def _shifts(folder: Path) -> str:
    return _spread_shifts(_read(folder, "tab06_shift").query("stage in ('ppo', 'uniform', 'other_country', 'human_half')"))


def _stages(folder: Path) -> str:
    return _spread_shifts(_read(folder, "tab06_shift"))


def _spread_shifts(frame: pd.DataFrame) -> str:
    frame = frame.query("persona == 'none'").assign(
        shift=lambda rows: [f"{row.value:+.3f} [{row.low:+.3f}, {row.high:+.3f}]" for row in rows.itertuples()]
    )
    frame = frame.rename(columns={"culture": "norms of", "language": "asked in"})
    return _spread(frame, ["norms of", "stage", "asked in"], "toward", "shift")


def _nearer(folder: Path) -> str:
    frame = _read(folder, "tab06_nearer").query("persona == 'none'")
    frame["shown"] = [
        f"{row.count:g} of {row.n:.0f} [{row.low:.2f}, {row.high:.2f}]" for row in frame.itertuples(index=False, name="Row")
    ]
    frame["p (Holm)"] = [f"{p:.2f}" if p == p else "" for p in frame["p_holm"]]
    frame = frame.rename(columns={"culture": "norms of", "language": "asked in"})
    by = ["norms of", "stage", "asked in"]
    wide = [frame[frame["reading"] == reading].set_index(by)[["shown", "p (Holm)"]] for reading in ("nearer", "mode")]
    both = wide[0].merge(wide[1], left_index=True, right_index=True, how="left", suffixes=(" nearer", " mode")).reset_index()
    names = {
        "shown nearer": "nearer to China",
        "p (Holm) nearer": "p",
        "shown mode": "China's modal answer",
        "p (Holm) mode": "p ",
    }
    return both.rename(columns=names).to_markdown(index=False, disable_numparse=True)


def _costs(folder: Path) -> str:
    runs = folder.parent.parent / "runs" / folder.name
    # In the order in which they were trained.
    marks = sorted(runs.glob("adapters/*/*/*/seed-*/step.json"), key=lambda mark: (mark.parts[-4], mark.stat().st_mtime))
    seed = json.loads(marks[0].read_text(encoding="utf-8"))["settings"]["seed"]
    trained = {mark.parts[-4:-2]: mark.parent for mark in marks if mark.parent.name == f"seed-{seed}"}
    asked = {mark.parent.name: mark.parent for mark in sorted(runs.glob("steps/survey/*_label/step.json"))}
    table = tabulate_costs(trained, ["norms of", "stage"])
    survey = tabulate_costs({(name,): step for name, step in asked.items()}, ["step"])
    mean = survey["minutes"].mean()
    text = (
        table.drop(columns="device")
        .assign(note=table["note"].fillna(""))
        .to_markdown(index=False, floatfmt=("", "", ".1f", ".1f"))
    )
    return (
        f"{text}\n\nThe survey by label: {mean:.1f} minutes an answerer ({len(survey)} answerers, both languages, all orders)."
    )


def _controls(folder: Path) -> str:
    frame = _read(folder, "tab06_controls").query("toward == 'target' and persona == 'none'")
    frame["shown"] = [f"{row.value:+.3f} [{row.low:+.3f}, {row.high:+.3f}]" for row in frame.itertuples()]
    frame = frame.rename(columns={"culture": "norms of", "language": "asked in"})
    return _spread(frame, ["norms of", "comparison"], "asked in", "shown")


def _claims(folder: Path) -> str:
    frame = (
        _read(folder, "tab06_claims").query("persona == 'none'").rename(columns={"culture": "norms of", "language": "asked in"})
    )
    return _spread(frame, ["norms of", "stage"], "asked in", "claimed")


def _asking(folder: Path) -> str:
    by = ["adapter", "stage", "language"]
    quality = _read(folder, "tab05_answer_quality").query("readout == 'label' and persona == 'none'")[
        [*by, "option mass", "refusal mass", "entropy"]
    ]
    shown = ["spread", "spread PriDe", "first order to average", "PriDe to average"]
    both = quality.merge(_read(folder, "tab05_position_bias").query("persona == 'none'")[[*by, *shown]], on=by)
    return both.to_markdown(index=False, floatfmt=".3f")


def _paper(folder: Path) -> str:
    frame = _read(folder, "tab06_paper")
    interval = [f"[{low:.2f}, {high:.2f}]" if low == low else "" for low, high in zip(frame["low"], frame["high"], strict=True)]
    frame = frame.assign(interval=interval, n=[f"{n:.0f}" if n == n else "" for n in frame["n"]])
    return frame[["claim", "paper", "ours", "interval", "n", "data", "model", "verdict"]].to_markdown(index=False)


def _races(root: Path) -> str | None:
    path = root / "runs" / "bench.json"
    if not path.is_file():
        return None
    frame = pd.DataFrame(json.loads(path.read_text(encoding="utf-8")))
    shown = ["race", "ratio", "target", "ours_s", "baseline_s", "ours_mb", "baseline_mb", "equal", "baseline"]
    frame["equal"] = frame["equal"].map({True: "yes", False: "no"})
    return frame[shown].astype(object).where(frame[shown].notna(), "").to_markdown(index=False, disable_numparse=True)


def _times(root: Path) -> str:
    rows = []
    for path in sorted((root / "notebooks" / "settings" / "profiles").glob("*.yaml")):
        profile = read_profile(path.stem, root=root)
        if profile.budget_minutes:
            total = f"{sum(profile.budget_minutes.values()):.0f}"
            rows.append([path.stem, profile.description, ", ".join(profile.models), total])
    return pd.DataFrame(rows, columns=["profile", "what it is", "model", "minutes on 2 cores"]).to_markdown(index=False)


def _figures(folder: Path) -> str:
    rows, root = [], folder.parent.parent
    for path in sorted(folder.glob("*")):
        if path.suffix in {".png", ".csv"}:
            number = path.stem[3:5]
            notebook = next((root / "notebooks").glob(f"{number}_*.ipynb"))
            rows.append([
                f"[{path.stem}](figures/{folder.name}/{path.name})", f"[{notebook.stem}](notebooks/{notebook.name})",
                ", ".join(_list_modules(notebook)),
            ])  # fmt: skip
    return pd.DataFrame(rows, columns=["figure or table", "notebook", "modules"]).to_markdown(index=False)


def _list_modules(notebook: Path) -> list[str]:
    source = "".join(line for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"] for line in cell["source"])
    names = re.search(r"from align_utils import \(?([\w,\s]+)", source)[1]
    return [name for name in re.findall(r"\w+", names.split("\ncfg")[0]) if name not in COMMON]


def _picture(folder: Path) -> str:
    return f"![Precision@K of every stage on the bundled sample](figures/{folder.name}/fig04_precision_at_k.png)"


BLOCKS = {
    "picture": _picture, "precision": _precision, "differences": _differences, "methods": _methods, "tried": _tried, "drawn": _drawn, "lists": _lists, "cost": _cost, "shifts": _shifts,
    "stages": _stages, "nearer": _nearer, "costs": _costs, "controls": _controls, "claims": _claims, "asking": _asking, "paper": _paper, "times": _times, "races": _races,
    "figures": _figures,
}  # fmt: skip


def _spread(frame: pd.DataFrame, rows: list[str], column: str, value: str) -> str:
    """A wide table: one row per combination of `rows` in the order they come, one column per value of `column`."""
    wide = frame.pivot(index=rows, columns=column, values=value)
    wide = wide.reindex(pd.MultiIndex.from_frame(frame[rows].drop_duplicates()))[list(dict.fromkeys(frame[column]))]
    return wide.fillna("").reset_index().to_markdown(index=False, disable_numparse=True)


def _read(folder: Path, name: str) -> pd.DataFrame:
    path = folder / f"{name}.csv"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: `make reproduce PROFILE={folder.name}` makes it, then `make publish`")
    return pd.read_csv(path)


def main() -> int:
    """`python -m align_utils.run.publish`: rewrite README.md in place, and RESULTS.md where its profile has run."""
    root = PACKAGE_ROOT
    for name, profile in (SAMPLE, REAL):
        if profile == SAMPLE[1] or (root / "figures" / profile).is_dir():
            text = (root / name).read_text(encoding="utf-8")
            (root / name).write_text(rewrite(text, root, profile), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
