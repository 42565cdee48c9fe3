"""What an ablation found: lists of several variants scored on the validation cues, and the table that notebooks 02 and 03 show."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from align_utils import lexical, stats
from align_utils.config import Config

K = 5


def score_variants(cfg: Config, lists: pd.DataFrame, data: dict[str, dict], families: dict) -> pd.DataFrame:
    """P@5 of every list (`model, culture, variant, cue, responses`) in both readings, with the family of its cue."""
    parts = []
    for culture, mine in lists.groupby("culture", sort=False):
        frame, language = data[culture]["norms"], cfg.language_of(culture)
        scored = lexical.score_lists(mine, frame, language, ks=[K], min_count=cfg.profile.lexical.min_count)
        parts.append(scored.assign(family=[families[culture, cue] for cue in scored["cue"]]))
    return pd.concat(parts, ignore_index=True)


def compare_variants(cfg: Config, scored: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Mean P@5 of every variant and its paired difference from the reference, with bootstrap intervals over families.

    Parameters
    ----------
    scored : DataFrame
        From `score_variants`.
    reference : str
        Its own differences are empty, as are all of a culture where it is not judged yet.

    Returns
    -------
    DataFrame
        `model, culture, variant, cues` and the columns of both readings (see `tabulate_variants`).
    """
    by = ["model", "culture", "variant"]
    table = scored.groupby(by, sort=False, as_index=False).agg(cues=("cue", "nunique"))
    for reading, part in scored.groupby("reading", sort=False):
        means = stats.summarise(part, by, "precision", unit="family", **cfg.bootstrap)
        pairs_of = [(name, reference) for name in part["variant"].unique() if name != reference]
        gaps = pd.DataFrame(columns=[*by, "value", "low", "high"])
        if pairs_of and reference in set(part["variant"]):
            gaps = stats.compare(
                part, by[:2], "precision", over="variant", pairs=pairs_of, key="cue", unit="family", **cfg.bootstrap
            )
            gaps["variant"] = gaps["comparison"].str.removesuffix(f" - {reference}")
        for frame, prefix in ((means, reading), (gaps, f"{reading}_gap")):
            names = {"value": prefix, "low": f"{prefix}_low", "high": f"{prefix}_high"}
            table = table.merge(frame[[*by, *names]].rename(columns=names), on=by, how="left")
    return table


def find_table(cfg: Config, name: str) -> Path:
    """The table that `run_ablation` writes: `runs/<profile>/ablation/<name>.csv`."""
    return cfg.runs / "ablation" / f"{name}.csv"


def read_table(cfg: Config, name: str) -> pd.DataFrame:
    """The ablation's table of this run, or one row that says how to make it."""
    path = find_table(cfg, name)
    if path.is_file():
        return pd.read_csv(path, keep_default_na=False, na_values=[""])
    command = f"make ablation PROFILE={cfg.profile.name}" + ("" if name == "sft" else f" ABLATION={name}")
    command += "" if cfg.is_sample else " ALIGN_DATA=<folder>"
    return pd.DataFrame([{"variant": "none tried in this run", "how": f"{command}, then this notebook again"}])
