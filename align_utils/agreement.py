"""Agreement of a generated list with people's beyond Precision@K: ranks, strengths and shared responses, as pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from align_utils.config import Language

MEASURES = ("pwr", "strength_recall", "rank_correlation", "jaccard")


def weigh_ranks(generated: Sequence[str], human: Sequence[str], k: int) -> float:
    """PWR@K: hits weighted by the reciprocal of their human rank, over the most that k responses could reach.

    Parameters
    ----------
    generated : sequence of str
        Distinct normalised responses in the order given.
    human : sequence of str
        Normalised human responses, strongest first.
    k : int

    Returns
    -------
    float
        In [0, 1]; NaN where people gave nothing.

    Examples
    --------
    >>> round(weigh_ranks(["bone", "moon"], ["cat", "bone", "bark"], 2), 3)  # (1/2) / (1 + 1/2)
    0.333
    """
    if not human:
        return float("nan")
    rank = {word: place for place, word in enumerate(human, start=1)}
    reachable = sum(1 / place for place in range(1, min(k, len(human)) + 1))
    return sum(1 / rank[word] for word in list(generated)[:k] if word in rank) / reachable


def recall_strength(generated: Sequence[str], strengths: Mapping[str, float], k: int) -> float:
    """Share of people's response mass that the first k responses hit.

    Returns
    -------
    float
        In [0, 1]; NaN where people gave nothing.

    Examples
    --------
    >>> round(recall_strength(["cat", "moon"], {"cat": 0.3, "bone": 0.1}, 5), 2)
    0.75
    """
    total = sum(strengths.values())
    return sum(strengths.get(word, 0.0) for word in list(generated)[:k]) / total if total else float("nan")


def correlate_ranks(generated: Sequence[str], strengths: Mapping[str, float]) -> float:
    """Spearman correlation of the order of a list with people's strengths, over the shared responses.

    Returns
    -------
    float
        In [-1, 1], positive where the earlier responses are the stronger ones; NaN for fewer than three shared responses or
        where people's strengths are all alike.
    """
    shared = [(place, strengths[word]) for place, word in enumerate(generated) if word in strengths]
    if len(shared) < 3 or len({strength for _, strength in shared}) == 1:
        return float("nan")
    places, values = pd.DataFrame(shared).rank().to_numpy().T
    return float(np.corrcoef(-places, values)[0, 1])


def score_agreement(lists: pd.DataFrame, norms: pd.DataFrame, language: Language, *, k: int) -> pd.DataFrame:
    """Every measure for every list.

    Parameters
    ----------
    lists : DataFrame
        `cue` and `responses` (list of str in order); further columns are kept.
    norms : DataFrame
        `cue, response, strength, rank` of the same culture.

    Returns
    -------
    DataFrame
        Columns of `lists` without `responses`, `measure` (MEASURES; `jaccard` is that of the first k with people's k strongest)
        and `value`, NaN where a measure is not defined.
    """
    ordered = norms.sort_values(["cue", "rank"])
    forms = ordered["response"].map({word: language.normalise(word) for word in ordered["response"].unique()})
    human: dict[str, dict[str, float]] = {}
    for cue, form, strength in zip(ordered["cue"], forms, ordered["strength"], strict=True):
        # Spellings that normalise alike are one response; it stands where the stronger one stood.
        table = human.setdefault(cue, {})
        table[form] = table.get(form, 0.0) + strength
    rows = []
    for row in lists.to_dict("records"):
        words = list(dict.fromkeys(language.normalise(word) for word in row.pop("responses")))
        strengths = human.get(row["cue"], {})
        answers, first = list(strengths), words[:k]
        union = set(first) | set(answers[:k])
        values = (
            weigh_ranks(words, answers, k), recall_strength(words, strengths, k), correlate_ranks(words, strengths),
            len(set(first) & set(answers[:k])) / len(union) if union else float("nan"),
        )  # fmt: skip
        rows += [{**row, "measure": measure, "value": value} for measure, value in zip(MEASURES, values, strict=True)]
    return pd.DataFrame(rows)
