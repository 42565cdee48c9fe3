"""Is a model at human level? Equivalence to people within the margin by which people differ from themselves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from align_utils.config import Language


def halve_ratings(
    trials: pd.DataFrame, cues: Sequence[str], scale: pd.Series, language: Language, *, splits: int, seed: int
) -> np.ndarray:
    """Differences between two random halves of the participants in the mean rating of their responses.

    Parameters
    ----------
    trials : DataFrame
        `cue, R1, R2, R3`, empty strings for missing.
    cues : sequence of str
        Those to average over; cues without two participants who gave a rated response are left out.
    scale : Series
        Rating of each normalised word.
    splits, seed : int

    Returns
    -------
    ndarray, shape (splits,)
        Mean over cues of first half - second half, scale points; empty where no cue is left.
    """
    people = _sum_participants(trials, cues, scale, language)
    rng, differences = np.random.default_rng(seed), []
    for _, part in people.groupby("cue"):
        if len(part) < 2:
            continue
        orders = rng.permuted(np.tile(np.arange(len(part)), (splits, 1)), axis=1)
        sums, counts = (part[name].to_numpy()[orders] for name in ("sum", "count"))
        half = len(part) // 2
        differences.append(sums[:, :half].sum(1) / counts[:, :half].sum(1) - sums[:, half:].sum(1) / counts[:, half:].sum(1))
    return np.mean(differences, axis=0) if differences else np.empty(0)


def list_halvable(trials: pd.DataFrame, cues: Sequence[str], scale: pd.Series, language: Language) -> list[str]:
    """Those of the cues over which `halve_ratings` averages: two participants or more gave a rated response."""
    sizes = _sum_participants(trials, cues, scale, language).groupby("cue").size()
    return sizes.index[sizes >= 2].tolist()


def find_margin(differences: np.ndarray, *, level: float = 0.95) -> float:
    """Half the central range of the split-half differences; NaN for none.

    Examples
    --------
    >>> round(find_margin(np.linspace(-1, 1, 1001)), 2)
    0.95
    """
    if not len(differences):
        return float("nan")
    low, high = np.quantile(differences, [(1 - level) / 2, (1 + level) / 2])
    return float(high - low) / 2


def show_equivalence(differences: Sequence[float], groups: Sequence, margin: float) -> dict[str, float]:
    """Two one-sided t-tests (TOST) of a mean difference against ±margin, over the means of whole groups.

    Parameters
    ----------
    differences : sequence of float
        Finite.
    groups : sequence
        Units that count as one observation (concept families).
    margin : float
        Above 0, fixed before any model is looked at.

    Returns
    -------
    dict
        `value` (mean), `low, high` (90 % interval, which lies within ±margin where p < 0.05), `n` (groups), `margin`, `p` (the
        larger of the two one-sided p; NaN for fewer than two groups or no margin).

    Source
    ------
    Schuirmann (1987), two one-sided tests.
    """
    means = pd.Series(np.asarray(differences, dtype=float)).groupby(np.asarray(groups)).mean().to_numpy()
    found = {"value": float(np.mean(means)) if len(means) else np.nan, "low": np.nan, "high": np.nan, "n": len(means)}
    if len(means) < 2 or not margin > 0:
        return {**found, "margin": margin, "p": np.nan}
    lower = stats.ttest_1samp(means, -margin, alternative="greater")
    upper = stats.ttest_1samp(means, margin, alternative="less")
    interval = stats.ttest_1samp(means, 0.0).confidence_interval(0.9)
    found |= {"low": float(interval.low), "high": float(interval.high)}
    return {**found, "margin": margin, "p": float(max(lower.pvalue, upper.pvalue))}


def _sum_participants(trials: pd.DataFrame, cues: Sequence[str], scale: pd.Series, language: Language) -> pd.DataFrame:
    long = trials[trials["cue"].isin(set(cues))].reset_index(drop=True).reset_index(names="trial")
    long = long.melt(["trial", "cue"], ["R1", "R2", "R3"], value_name="word")
    forms = {word: language.normalise(word) for word in long["word"].unique() if word}
    long["value"] = long["word"].map(forms).map(scale)
    return long.dropna(subset="value").groupby(["cue", "trial"])["value"].agg(["sum", "count"])
