"""Distances between answers, and the yardsticks beside them."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.special import rel_entr

from align_utils.survey.questions import ANSWERER

DISTANCE_MEASURES = ("wasserstein", "jensen_shannon", "mean_difference")
# A high-tension set below it could show next to nothing; of 55 items it is a third.
FEWEST = 18


def wasserstein(p: np.ndarray, q: np.ndarray) -> float:
    """Wasserstein-1 distance of two distributions on an ordered scale, divided by k - 1.

    Parameters
    ----------
    p, q : ndarray, shape (k,)
        Shares over the scale's points in order, each summing to 1; k at least 2.

    Returns
    -------
    float
        In [0, 1]; 1 when all mass sits at opposite ends.

    Examples
    --------
    >>> wasserstein(np.array([1.0, 0, 0]), np.array([0, 0, 1.0]))
    1.0
    """
    p, q = _check(p), _check(q)
    return float(np.abs(np.cumsum(p - q)[:-1]).sum() / (len(p) - 1))


def jensen_shannon(p: np.ndarray, q: np.ndarray) -> float:
    """Jensen-Shannon divergence (base 2), in [0, 1]."""
    return float(measure_rows(_check(p)[None], _check(q)[None])[1][0])


def measure_rows(p: np.ndarray, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first two of MEASURES, row by row, for two arrays of distributions drawn anew.

    Parameters
    ----------
    p, q : ndarray, shape (draws, k)
        Rows sum to 1 (not checked); a row with NaN gives NaN.

    Returns
    -------
    (ndarray, ndarray)
        Wasserstein and Jensen-Shannon as in the functions of those names, shape (draws,).
    """
    moved = np.abs(np.cumsum(p - q, axis=1)[:, :-1]).sum(axis=1) / (p.shape[1] - 1)
    middle = (p + q) / 2
    divergence = (rel_entr(p, middle) + rel_entr(q, middle)).sum(axis=1) / (2 * np.log(2))
    return moved, np.maximum(divergence, 0.0)  # alike rows may come out at minus a rounding error


def mean_difference(p: np.ndarray, q: np.ndarray) -> float:
    """Difference of the mean scores, p minus q, divided by k - 1; in [-1, 1], never further from 0 than `wasserstein`.

    Examples
    --------
    >>> mean_difference(np.array([0.5, 0, 0.5]), np.array([0, 1.0, 0]))  # spread is not seen
    0.0
    """
    p, q = _check(p), _check(q)
    return float((p - q) @ np.arange(len(p)) / (len(p) - 1))


def measure_distances(answers: pd.DataFrame, human: pd.DataFrame) -> pd.DataFrame:
    """Distance of every answerer to every culture, per item.

    Parameters
    ----------
    answers : DataFrame
        `question, code, share` and any columns that name the answerer (model, adapter, language, persona ...).
    human : DataFrame
        `question, culture, code, share`, from `wvs.load_distributions`, codes in scale order.

    Returns
    -------
    DataFrame
        The answerer's columns, `question`, `to` (culture) and one column for each of MEASURES.
    """
    names = [column for column in answers.columns if column not in {"code", "share", "n", "n_effective", "question"}]
    people = {key: group["share"].to_numpy() for key, group in human.groupby(["question", "culture"], sort=False)}
    codes = {question: group["code"].tolist() for (question, _), group in human.groupby(["question", "culture"], sort=False)}
    cultures = list(dict.fromkeys(human["culture"]))
    rows = []
    for key, group in answers[answers["question"].isin(codes)].groupby([*names, "question"], sort=False, dropna=False):
        question = key[-1]
        shares = group.set_index("code")["share"].reindex(codes[question]).to_numpy()
        for culture in cultures:
            other = people[question, culture]
            rows.append(dict(zip(names, key[:-1], strict=True)) | {
                "question": question, "to": culture,
                "wasserstein": wasserstein(shares, other), "jensen_shannon": jensen_shannon(shares, other),
                "mean_difference": mean_difference(shares, other),
            })  # fmt: skip
    return pd.DataFrame(rows)


def rank_tension(human: pd.DataFrame, first: str, second: str, *, size: int) -> pd.DataFrame:
    """Items by Wasserstein distance between two cultures, largest first, with `chosen` for the first `size`.

    Returns
    -------
    DataFrame
        `question, tension, chosen`; ties in the order of the question.
    """
    wide = human.pivot(index=["question", "code"], columns="culture", values="share")
    # pivot sorts codes; the order of the frame is the order of the scale
    order = human.drop_duplicates(["question", "code"]).set_index(["question", "code"]).index
    wide = wide.loc[order]
    tension = {q: wasserstein(g[first].to_numpy(), g[second].to_numpy()) for q, g in wide.groupby(level="question", sort=False)}
    frame = pd.DataFrame({"question": list(tension), "tension": list(tension.values())})
    frame = frame.sort_values(["tension", "question"], ascending=[False, True], ignore_index=True)
    frame["chosen"] = np.arange(len(frame)) < size
    return frame


def choose_size(available: int, wanted: int) -> int:
    """How many items make a high-tension set: as many as wanted, but at most a third of those there are (else it is no choice).

    Where a third is fewer than `FEWEST`, that many are taken, as long as they are no more than half of the items.

    Examples
    --------
    >>> choose_size(233, 50), choose_size(60, 50), choose_size(36, 50), choose_size(20, 50)
    (50, 20, 18, 10)
    """
    return min(wanted, available // 2, max(FEWEST, available // 3))


def _check(p) -> np.ndarray:
    p = np.asarray(p, dtype=float)
    if p.ndim != 1 or len(p) < 2 or not np.isfinite(p).all() or (p < 0).any() or abs(p.sum() - 1) > 1e-6:
        raise ValueError(f"not a distribution over at least two points: {p.tolist()}")
    return p


# The stages of the baselines; `human` is the other country wherever a distance to a country is taken.
YARDSTICKS = ("human", "human_half", "uniform")
_NAMES = {"model": "baseline", "language": "none", "persona": "none"}


def build_baselines(human: pd.DataFrame, halves: pd.DataFrame) -> pd.DataFrame:
    """Answer distributions of the baselines in the form of a model's answers.

    Parameters
    ----------
    human : DataFrame
        `question, culture, code, share`, codes in scale order.
    halves : DataFrame
        `question, culture, half` (1 or 2), `code, share`: from `respondents.draw_halves`. Only half 1 answers here.

    Returns
    -------
    DataFrame
        ANSWERER, `question, code, share`; `model` is 'baseline', `stage` one of STAGES, `adapter` the people's culture or 'none'.
    """
    people = human.assign(adapter=human["culture"], stage="human")
    half = halves[halves["half"] == 1]
    half = half.assign(adapter=half["culture"], stage="human_half")
    even = human.drop_duplicates(["question", "code"])
    even = even.assign(share=1 / even.groupby("question")["code"].transform("size"), adapter="none", stage="uniform")
    return pd.concat([people, half, even], ignore_index=True).assign(**_NAMES)[[*ANSWERER, "question", "code", "share"]]


def measure_baselines(human: pd.DataFrame, halves: pd.DataFrame) -> pd.DataFrame:
    """Distance of every baseline to every country, as `values.measure_distances`; a half is held against the other halves.

    Returns
    -------
    DataFrame
        ANSWERER, `question`, `to` and `values.MEASURES`; a country's distance to itself is left out.
    """
    rows = build_baselines(human, halves)
    is_half = rows["stage"] == "human_half"
    distances = measure_distances(rows[~is_half], human)
    distances = distances[(distances["stage"] != "human") | (distances["adapter"] != distances["to"])]
    return pd.concat([distances, measure_distances(rows[is_half], halves[halves["half"] == 2])], ignore_index=True)


def add_baselines(answers: pd.DataFrame, baselines: pd.DataFrame) -> pd.DataFrame:
    """Models' answers, or distances, and the baselines' below them; a baseline is no training run: its `seed`, where models have one, is 0."""
    return pd.concat([answers, baselines.assign(seed=0) if "seed" in answers else baselines], ignore_index=True)


def pick_model(frame: pd.DataFrame, model: str, persona: str) -> pd.DataFrame:
    """Rows of one model asked in one persona, and of the baselines."""
    mine = (frame["model"] == model) & (frame["persona"] == persona)
    return frame[mine | (frame["model"] == _NAMES["model"])]
