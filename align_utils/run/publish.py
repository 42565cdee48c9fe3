"""The numbers of README.md, RESULTS.md and docs/real-norms.md: every block between markers is made from a run's tables and sentences alone."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pandas as pd

from align_utils.config.profiles import PACKAGE_ROOT, read_profile
from align_utils.run.runner import list_notebooks

BLOCK = re.compile(r"(<!-- begin (\w+)(?: (\S+))? -->\n).*?(<!-- end -->)", re.DOTALL)
# Texts and the profile they are made of. Of a run on real files aggregates alone may be shown: no word, no item.
TEXTS = {"README.md": "cpu", "RESULTS.md": "cpu_real", "docs/real-norms.md": "cpu_real"}
UNPUBLISHED = "*Not published yet: `make reproduce`, then `make publish`.*"


def rewrite(text: str, root: Path, profile: str) -> str:
    """The text with every marked block made anew; before any run of the profile the blocks of a run say so.

    `<!-- begin table NAME -->`, `picture NAME`, `say KEY` (one sentence of the run, or `NN` for all of a notebook), `notebooks`, `times`,
    or `costs`, up to `<!-- end -->`; `PROFILE/NAME` is of another profile's run. A block stays as it is where what fills it is not on this
    machine (`costs`, another profile).

    Raises
    ------
    FileNotFoundError
        The run lacks a table or a sentence: `make reproduce` makes them.
    KeyError
        A block's name is unknown.
    """

    def fill(match: re.Match) -> str:
        other, _, name = (match[3] or "").rpartition("/")
        makes, folder = BLOCKS[match[2]], root / "figures" / (other or profile)
        if other and not folder.is_dir():
            return match[0]
        made = makes(root, other or profile, name) if folder.is_dir() or makes is _times else UNPUBLISHED
        return match[0] if made is None else f"{match[1]}{made.strip()}\n{match[4]}"

    return BLOCK.sub(fill, text)


def gather_sentences(root: Path, profile: str) -> None:
    """Keep the sentences of a run beside its figures (`sentences.json`), where the run is on this machine."""
    paths = sorted((root / "runs" / profile / "sentences").glob("[0-9A][0-9].json"))
    told = [{"notebook": path.stem, **entry} for path in paths for entry in json.loads(path.read_text(encoding="utf-8"))]
    if told:
        target = root / "figures" / profile / "sentences.json"
        target.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _table(root: Path, profile: str, name: str) -> str:
    path = root / "figures" / profile / f"{name}.md"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: `make reproduce appendix PROFILE={profile}` makes it, then `make publish`")
    return path.read_text(encoding="utf-8")


def _picture(root: Path, profile: str, name: str) -> str:
    # Text files lie as deep as they are named.
    return f"![{name}](figures/{profile}/{name}.png)"


def _say(root: Path, profile: str, which: str) -> str:
    told = _read_sentences(root, profile)
    own = [entry["text"] for entry in told if which in (entry["key"], entry["notebook"])]
    if not own:
        known = ", ".join(entry["key"] for entry in told)
        raise FileNotFoundError(f"profile {profile}: no sentence '{which}'; there are {known or 'none: run the notebooks'}")
    return own[0] if len(own) == 1 else "\n".join(f"- {text}" for text in own)


def _read_sentences(root: Path, profile: str) -> list[dict]:
    path = root / "figures" / profile / "sentences.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []


def _notebooks(root: Path, profile: str, _) -> str:
    told, rows = _read_sentences(root, profile), []
    for name in list_notebooks(root):
        cells = json.loads((root / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
        question = re.search(r"\*\*Question\.\*\* (.*?)\n\n", "".join(cells[0]["source"]), re.DOTALL)[1].replace("\n", " ")
        # The sentence that answers the question: the first, but for those named here.
        own = {entry["key"]: entry["text"] for entry in told if entry["notebook"] == name[:2]}
        result = next((own[key] for key in (*HEADLINES, *own) if key in own), "")
        rows.append(f"- [{name[:2]}](notebooks/{name}.ipynb) **{question}**  \n  {result}")
    return "\n".join(rows)


def _times(root: Path, profile: str, _) -> str:
    rows = []
    for path in sorted((root / "notebooks" / "settings" / "profiles").glob("*.yaml")):
        known = read_profile(path.stem, root=root)
        if known.budget_minutes:
            rows.append([f"`{path.stem}`", known.description, f"{sum(known.budget_minutes.values()):.0f}"])
    table = pd.DataFrame(rows, columns=["profile", "what it is", "minutes"])
    return table.to_markdown(index=False, disable_numparse=True)


def _costs(root: Path, profile: str, _) -> str | None:
    runs = root / "runs" / profile
    # In the order in which they were trained.
    marks = sorted(runs.glob("adapters/*/*/*/seed-*/step.json"), key=lambda mark: (mark.parts[-4], mark.stat().st_mtime))
    if not marks:
        return None
    rows = []
    for mark in marks:
        cost = json.loads(mark.read_text(encoding="utf-8"))["cost"]
        # What went on from a checkpoint took longer than its last sitting, which alone is known.
        rows.append([*mark.parts[-4:-2], None if "note" in cost else cost["seconds"] / 60, cost["memory_gb"]])
    table = pd.DataFrame(rows, columns=["norms of", "stage", "minutes", "memory (GB)"]).astype({"minutes": float})
    # Of several trainings the quickest: a machine has other things to do now and then.
    least = table.groupby(["norms of", "stage"]).agg({"minutes": "min", "memory (GB)": "max"}).reset_index()
    wide = least.pivot(index="stage", columns="norms of", values=["minutes", "memory (GB)"]).loc[table["stage"].unique()]
    wide.columns = [f"{measure}, {culture}" for measure, culture in wide.columns]
    shown = wide.map(lambda value: "" if pd.isna(value) else f"{value:.1f}").reset_index()
    return shown.to_markdown(index=False, disable_numparse=True)


HEADLINES = ("overlap", "reading", "verdict")
BLOCKS = {"table": _table, "picture": _picture, "say": _say, "notebooks": _notebooks, "times": _times, "costs": _costs}


def main() -> int:
    """`python -m align_utils.run.publish`: rewrite README.md in place, and what tells of real files where their profile has run."""
    for profile in TEXTS.values():
        gather_sentences(PACKAGE_ROOT, profile)
    for name, profile in TEXTS.items():
        if profile == TEXTS["README.md"] or (PACKAGE_ROOT / "figures" / profile).is_dir():
            path = PACKAGE_ROOT / name
            path.write_text(rewrite(path.read_text(encoding="utf-8"), PACKAGE_ROOT, profile), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
