"""Lexical alignment as pure functions: precision of associations, the human ceiling, baselines, the reward."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from align_utils.config import Language, Reward
from align_utils.matching import fold_words

READINGS = ("attested", "top")


def precision_at_k(generated: Sequence[str], human: Sequence[str], k: int) -> float:
    """Share of the first k distinct generated responses that the human list holds; missing responses count as wrong.

    Parameters
    ----------
    generated : sequence of str
        Distinct normalised responses in the order given, any length.
    human : sequence of str
        Normalised human responses that count as right.
    k : int
        At least 1; the denominator whatever the length of `generated`.

    Returns
    -------
    float
        In [0, 1].

    Source
    ------
    ALIGN, Precision@5 (abstract); the reading of 'right' is ours: see `score_lists`.

    Examples
    --------
    >>> precision_at_k(["cat", "bone", "moon"], ["cat", "bone", "bark"], 5)
    0.4
    """
    return len(set(list(dict.fromkeys(generated))[:k]) & set(human)) / k


def score_lists(
    lists: pd.DataFrame, norms: pd.DataFrame, language: Language, *, ks: Sequence[int], min_count: int, matching: str = "exact"
) -> pd.DataFrame:
    """Precision@K of generated lists in both readings.

    Parameters
    ----------
    lists : DataFrame
        `cue` and `responses` (list of str in order), one row a cue; further columns are kept.
    norms : DataFrame
        Human norms of the same culture (`cue, response, count, rank`).
    ks : sequence of int
    min_count : int
        `attested`: every human response given at least so often is right. `top`: only the K strongest (ties are broken by code
        points of the response).
    matching : {'exact', 'lemma'}
        See `matching.fold_words`; human responses that fold alike are one response with the sum of their counts.

    Returns
    -------
    DataFrame
        Columns of `lists` without `responses`, plus `reading`, `k`, `precision` in [0, 1]; one row a cue, reading and K.
    """
    norms = norms[norms["cue"].isin(set(lists["cue"]))]
    forms = fold_words([*norms["response"], *(word for words in lists["responses"] for word in words)], language, matching)
    human = _group_responses(norms, forms, min_count)
    rows = []
    for row in lists.to_dict("records"):
        generated = [forms[word] for word in row.pop("responses")]
        answers = human.get(row["cue"], [])
        for k in ks:
            for reading, right in (("attested", answers), ("top", answers[:k])):
                rows.append({**row, "reading": reading, "k": k, "precision": precision_at_k(generated, right, k)})
    return pd.DataFrame(rows)


def estimate_ceiling(
    trials: pd.DataFrame, cues: Sequence[str], language: Language, *, ks: Sequence[int], splits: int, seed: int
) -> pd.DataFrame:
    """Human ceiling: one half of the participants plays the model, the other half is the norm.

    A lower bound, since half a panel attests fewer responses than a whole one; languages are comparable only at equal panels.

    Parameters
    ----------
    trials : DataFrame
        `cue, R1, R2, R3` with empty strings for missing.
    cues : sequence of str
        Those to judge; cues without at least four trials are left out.
    ks : sequence of int
    splits, seed : int
        Random halvings averaged per cue; seed.

    Returns
    -------
    DataFrame
        `cue, reading, k, precision, people` (size of the smaller half).
    """
    rng = np.random.default_rng(seed)
    rows = []
    for cue, group in trials[trials["cue"].isin(set(cues))].groupby("cue"):
        answers = [
            {language.normalise(word) for word in trial if word} for trial in group[["R1", "R2", "R3"]].itertuples(index=False)
        ]
        if len(answers) < 4:
            continue
        scores = np.zeros((len(ks), 2))
        for _ in range(splits):
            order = rng.permutation(len(answers))
            one, other = (_order_by_count([answers[i] for i in half]) for half in np.array_split(order, 2))
            scores += [[precision_at_k(one, other, k), precision_at_k(one, other[:k], k)] for k in ks]
        rows += [
            {"cue": cue, "reading": reading, "k": k, "precision": scores[i, j] / splits, "people": len(answers) // 2}
            for i, k in enumerate(ks)
            for j, reading in enumerate(READINGS)
        ]
    return pd.DataFrame(rows, columns=["cue", "reading", "k", "precision", "people"])


def list_frequency_baseline(norms: pd.DataFrame, train: Sequence[str], cues: Sequence[str], *, k: int) -> pd.DataFrame:
    """The same answer to every cue: the k commonest responses over the training cues."""
    counts = norms[norms["cue"].isin(set(train))].groupby("response")["count"].sum()
    common = counts.sort_index().sort_values(ascending=False, kind="stable").index[:k].tolist()
    return pd.DataFrame({"cue": list(cues), "responses": [common] * len(cues)})


def list_chance_baseline(norms: pd.DataFrame, cues: Sequence[str], *, k: int) -> pd.DataFrame:
    """Another held-out cue's strongest human responses: the cue half the sorted list away, since neighbours share characters."""
    ordered = sorted(cues)
    groups = dict(tuple(norms[norms["rank"] <= k].groupby("cue")["response"]))
    other = {cue: ordered[(i + len(ordered) // 2) % len(ordered)] for i, cue in enumerate(ordered)}
    return pd.DataFrame({"cue": list(cues), "responses": [groups[other[cue]].tolist() for cue in cues]})


def find_reverse_pairs(
    norms: pd.DataFrame, cues: Sequence[str], train: Sequence[str], language: Language, *, k: int
) -> set[str]:
    """Held-out cues of which a top-k pair (cue, response) stands reversed (response, cue) among the training pairs."""
    forms = norms.assign(
        a=norms["cue"].map(language.normalise), b=norms["response"].map(language.normalise)
    )  # fmt: skip
    training = forms[forms["cue"].isin(set(train))]
    known = set(zip(training["a"], training["b"], strict=True))
    top = forms[forms["cue"].isin(set(cues)) & (forms["rank"] <= k)]
    return {row.cue for row in top.itertuples() if (row.b, row.a) in known}


def score_reward(responses: Sequence[str], human: dict[str, float], language: Language, reward: Reward) -> float:
    """Reward of one generated list, in [0, 1]: does it hold what native speakers answer, and what they answer most?

    `precision * P@k + strength * (sum of strengths of the hits / largest sum that k responses could reach)`, over the first
    k distinct responses. Duplicates, copies of the cue and what is no list were dropped by `prompts.parse_list` before, so
    they earn nothing.

    Parameters
    ----------
    responses : sequence of str
        Parsed list.
    human : dict
        Normalised response to strength, for this cue (training or validation cues only).

    Examples
    --------
    >>> from align_utils import config
    >>> cfg = config.load("smoke"); en = cfg.languages["en"]
    >>> parts = config.Reward(k=2, precision=0.5, strength=0.5)
    >>> score_reward(["cat", "moon"], {"cat": 0.3, "bone": 0.1}, en, parts)
    0.625
    """
    precision, strength = split_reward(responses, human, language, k=reward.k)
    return reward.precision * precision + reward.strength * strength


def split_reward(responses: Sequence[str], human: dict[str, float], language: Language, *, k: int) -> tuple[float, float]:
    """The two parts of `score_reward`, each in [0, 1]: P@k, and the strength of the hits over the most that k could reach."""
    forms = list(dict.fromkeys(language.normalise(word) for word in responses))[:k]
    reachable = sum(sorted(human.values(), reverse=True)[:k])
    weight = sum(human.get(form, 0.0) for form in forms) / reachable if reachable else 0.0
    return precision_at_k(forms, list(human), k), weight


def map_strengths(norms: pd.DataFrame, language: Language) -> dict[str, dict[str, float]]:
    """Cue to {normalised response: strength}, the form `score_reward` reads."""
    forms = norms["response"].map({word: language.normalise(word) for word in norms["response"].unique()})
    table: dict[str, dict[str, float]] = {}
    for cue, form, strength in zip(norms["cue"], forms, norms["strength"], strict=True):
        table.setdefault(cue, {})[form] = strength
    return table


def _group_responses(norms: pd.DataFrame, forms: dict[str, str], min_count: int) -> dict[str, list[str]]:
    merged = norms.assign(form=norms["response"].map(forms)).groupby(["cue", "form"], sort=False)
    merged = merged.agg(count=("count", "sum"), rank=("rank", "min")).reset_index()
    merged = merged[merged["count"] >= min_count].sort_values(["count", "rank"], ascending=[False, True])
    return merged.groupby("cue")["form"].agg(list).to_dict()


def _order_by_count(answers: list[set[str]]) -> list[str]:
    counts: dict[str, int] = {}
    for words in answers:
        for word in words:
            counts[word] = counts.get(word, 0) + 1
    return sorted(counts, key=lambda word: (-counts[word], word))
