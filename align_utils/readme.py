"""The numbers of README.md: every block between markers is rewritten from figures/cpu and the profiles, by nothing else."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pandas as pd

from align_utils import config

BLOCK = re.compile(r"(<!-- begin (\w+) -->\n).*?(<!-- end \2 -->)", re.DOTALL)
UNPUBLISHED = "*Not published yet: `make reproduce`, then `make publish`.*"
# Rooms that every notebook uses say nothing about where a figure comes from.
COMMON = {"artifacts", "config", "models", "pairs", "plots", "stages", "stats"}


def rewrite(text: str, root: Path) -> str:
    """README text with every marked block made anew; before any run of profile `cpu` the result blocks say so.

    Raises
    ------
    FileNotFoundError
        `figures/cpu` is there but lacks a table: `make reproduce` makes them.
    KeyError
        A block's name is unknown.
    """
    published = (root / "figures" / "cpu").is_dir()

    def fill(match: re.Match) -> str:
        make = BLOCKS[match[2]] if published or match[2] == "times" else lambda _: UNPUBLISHED
        return f"{match[1]}{make(root).strip()}\n{match[3]}"

    return BLOCK.sub(fill, text)


def _precision(root: Path) -> str:
    frame = _read(root, "tab04_precision_at_5").query("subset == 'all'")
    frame["shown"] = [f"{row.value:.2f} [{row.low:.2f}, {row.high:.2f}]" for row in frame.itertuples()]
    counts = frame.groupby("culture")["n"].max()
    frame["column"] = frame["culture"].map(lambda name: f"{name} (n={counts[name]:.0f})") + ", " + frame["reading"]
    wide = frame.pivot(index="stage", columns="column", values="shown").reindex(list(dict.fromkeys(frame["stage"])))
    return wide[sorted(wide.columns, reverse=True)].fillna("").reset_index().to_markdown(index=False)


def _differences(root: Path) -> str:
    frame = _read(root, "tab04_differences").query("reading == 'attested' and subset == 'all'")
    frame["difference in P@5"] = [f"{row.value:+.2f} [{row.low:+.2f}, {row.high:+.2f}]" for row in frame.itertuples()]
    frame["p (Holm)"] = [f"{p:.3f}" for p in frame["p_holm"]]
    return frame[["culture", "comparison", "difference in P@5", "n", "p (Holm)"]].to_markdown(
        index=False, disable_numparse=True
    )


def _shifts(root: Path) -> str:
    frame = _read(root, "tab06_shift").query("stage == 'ppo'")
    frame["shift"] = [f"{row.value:+.3f} [{row.low:+.3f}, {row.high:+.3f}]" for row in frame.itertuples()]
    frame = frame.rename(columns={"culture": "norms of", "language": "asked in"})
    return frame[["norms of", "asked in", "toward", "shift", "n"]].to_markdown(index=False)


def _paper(root: Path) -> str:
    frame = _read(root, "tab06_paper")
    interval = [f"[{low:.2f}, {high:.2f}]" if low == low else "" for low, high in zip(frame["low"], frame["high"], strict=True)]
    frame = frame.assign(interval=interval, n=[f"{n:.0f}" if n == n else "" for n in frame["n"]])
    return frame[["claim", "paper", "ours", "interval", "n", "data", "model", "verdict"]].to_markdown(index=False)


def _times(root: Path) -> str:
    rows = []
    for path in sorted((root / "notebooks" / "profiles").glob("*.yaml")):
        profile = config.read_profile(path.stem, root=root)
        if profile.budget_minutes:
            total = f"{sum(profile.budget_minutes.values()):.0f}"
            rows.append([path.stem, profile.description, ", ".join(profile.models), total])
    return pd.DataFrame(rows, columns=["profile", "what it is", "model", "minutes on 2 cores"]).to_markdown(index=False)


def _figures(root: Path) -> str:
    rows = []
    for path in sorted((root / "figures" / "cpu").glob("*")):
        if path.suffix in {".png", ".csv"}:
            number = path.stem[3:5]
            notebook = next((root / "notebooks").glob(f"{number}_*.ipynb"))
            rows.append([
                f"[{path.stem}](figures/cpu/{path.name})", f"[{notebook.stem}](notebooks/{notebook.name})",
                ", ".join(_list_modules(notebook)),
            ])  # fmt: skip
    return pd.DataFrame(rows, columns=["figure or table", "notebook", "modules"]).to_markdown(index=False)


def _list_modules(notebook: Path) -> list[str]:
    source = "".join(line for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"] for line in cell["source"])
    names = re.search(r"from align_utils import \(?([\w,\s]+)", source)[1]
    return [name for name in re.findall(r"\w+", names.split("\ncfg")[0]) if name not in COMMON]


def _picture(root: Path) -> str:
    return "![Precision@K of every stage on the bundled sample](figures/cpu/fig04_precision_at_k.png)"


BLOCKS = {
    "picture": _picture,
    "precision": _precision, "differences": _differences, "shifts": _shifts, "paper": _paper, "times": _times, "figures": _figures,
}  # fmt: skip


def _read(root: Path, name: str) -> pd.DataFrame:
    path = root / "figures" / "cpu" / f"{name}.csv"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: `make reproduce` makes it, then `make publish`")
    return pd.read_csv(path)


def main() -> int:
    """`python -m align_utils.readme`: rewrite README.md in place."""
    path = config.PACKAGE_ROOT / "README.md"
    text = path.read_text(encoding="utf-8")
    path.write_text(rewrite(text, config.PACKAGE_ROOT), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
