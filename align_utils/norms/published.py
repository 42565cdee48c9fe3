"""Cue statistics as published with the norms, and our strengths beside the published ones."""

from __future__ import annotations

import numpy as np
import pandas as pd

from align_utils.config.settings import RESPONSES, Language


def measure_cue_stats(trials: pd.DataFrame, responses: str) -> pd.DataFrame:
    """Coverage, entropy and missing responses of every cue, the columns of `cueStats.SWOW-EN.R1` and `.R123`, sorted by cue.

    `coverage`: percent of the given responses that are cues themselves (the published files have NA for 0); `H`: entropy in nats;
    `unknown`: trials without R1; for R123 `xR2` (missing R2 beyond those) and `xR3` (missing R3 beyond the missing R2); `N`: responses
    asked for. A cue without any response has no coverage and no H.

    Source
    ------
    SWOWEN-2018 `createCueStats.R` (R package entropy: natural logarithm, maximum likelihood).

    Examples
    --------
    >>> rows = [("dog", "cat", "bone", ""), ("dog", "cat", "", ""), ("cat", "dog", "", ""), ("cat", "", "", "")]
    >>> table = measure_cue_stats(pd.DataFrame(rows, columns=["cue", "R1", "R2", "R3"]), "R123")
    >>> table.round(2).values.tolist()
    [['cat', 100.0, 0.0, 1, 1, 0, 6], ['dog', 66.67, 0.64, 0, 1, 1, 6]]
    """
    columns = ["R1"] if responses == "R1" else RESPONSES
    cue, names = pd.factorize(trials["cue"], sort=True)
    size = len(names)
    long = pd.concat([trials[column] for column in columns], ignore_index=True)
    given = (long != "").to_numpy()
    asked, words = np.tile(cue, len(columns))[given], long[given]
    tokens = np.bincount(asked, minlength=size)
    covered = np.bincount(asked, weights=words.isin(names).to_numpy(), minlength=size)
    with np.errstate(invalid="ignore", divide="ignore"):
        table = pd.DataFrame({"cue": names.astype(str), "coverage": covered / tokens * 100})
        table["H"] = _measure_entropy(asked, words, tokens)
    missing = [np.bincount(cue, weights=(trials[column] == "").to_numpy(), minlength=size).astype(int) for column in columns]
    table["unknown"] = missing[0]
    if len(columns) > 1:
        table["xR2"] = missing[1] - missing[0]
        table["xR3"] = missing[2] - missing[1]
    table["N"] = np.bincount(cue, minlength=size) * len(columns)
    return table


def describe_cues(measured: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """One row a culture: cues, mean coverage and entropy with their standard deviations, and mean missing responses a cue."""
    rows = []
    for name, table in measured.items():
        row = {"culture": name, "cues": len(table), "median N": table["N"].median()}
        for column, label in (("coverage", "coverage %"), ("H", "H (nats)")):
            row |= {label: table[column].mean(), f"{label} sd": table[column].std()}
        rows.append(row | {column: table[column].mean() for column in ("unknown", "xR2", "xR3") if column in table})
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=["culture", "cues", "N"])


def compare_strengths(ours: pd.DataFrame, published: pd.DataFrame, language: Language) -> dict[str, float]:
    """How closely strengths counted from trials match the published ones, over the cues that both have.

    A published pair that ours lacks counts as 0; a pair of ours that the published list lacks is not compared (lists may be cut).
    `cues`, `pairs` (published), `found` (share of them in ours), `identical counts` (share), `largest difference` (in count),
    `correlation` (Pearson, of strengths; NaN where one side does not vary).
    """
    common = set(ours["cue"].unique()) & set(published["cue"].unique())
    sides = []
    for frame in (ours, published):
        frame = frame[frame["cue"].isin(common)]
        forms = {word: language.normalise(word) for word in frame["response"].unique()}
        sides.append(frame.assign(form=frame["response"].map(forms))[["cue", "form", "count", "strength"]])
    both = sides[1].merge(sides[0], on=["cue", "form"], how="left", suffixes=("", " ours"), validate="one_to_one")
    found = both["count ours"].notna()
    both = both.fillna({"count ours": 0, "strength ours": 0.0})
    difference = (both["count"] - both["count ours"]).abs()
    return {
        "cues": len(common), "pairs": len(both), "found": found.mean(), "identical counts": (difference == 0).mean(),
        "largest difference": difference.max(), "correlation": both["strength"].corr(both["strength ours"]),
    }  # fmt: skip


def _measure_entropy(groups: np.ndarray, words: pd.Series, tokens: np.ndarray) -> np.ndarray:
    """Entropy of the words in each group, in nats: log N - sum(count log count) / N."""
    codes, names = pd.factorize(words)
    pairs, counts = np.unique(groups.astype(np.int64) * max(len(names), 1) + codes, return_counts=True)
    inner = np.bincount(pairs // max(len(names), 1), weights=counts * np.log(counts), minlength=len(tokens))
    return np.where(tokens > 0, np.maximum(np.log(tokens) - inner / tokens, 0.0), np.nan)
