"""PriDe: what an answerer prefers whatever stands there, estimated and divided out.

Zheng et al. 2024, Large Language Models Are Not Robust Multiple Choice Selectors (ICLR), section 4.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from align_utils.survey.answers import average_orders, compare_shares, drop_extra_order
from align_utils.survey.questions import ANSWERER

_LEAST = 1e-12


def estimate_prior(answers: pd.DataFrame) -> pd.DataFrame:
    """Prior of the places: ANSWERER, `options` (k), `place` (1..k), `prior` (sums to 1 over places), `items` (questions it rests on).

    Per question, the softmax over places of the mean logarithm over the rotations of the options, in which each option's own appeal
    is the same at every place; then the mean over the questions with as many options. Of ten-point scales, shown in both
    directions alone, the content cancels only as far as the two ends are liked alike.
    """
    full = drop_extra_order(answers).copy()
    full["options"] = full.groupby("question")["place"].transform("max")
    full["log"] = np.log(full["probability"].clip(lower=_LEAST))
    keys = [*ANSWERER, "options", "question"]
    mean = full.groupby([*keys, "place"], sort=False)["log"].mean().reset_index()
    mean["prior"] = _normalise(np.exp(mean["log"] - mean.groupby(keys)["log"].transform("max")), mean, keys)
    by = mean.groupby([*ANSWERER, "options", "place"], sort=False)
    return by.agg(prior=("prior", "mean"), items=("question", "nunique")).reset_index()


def divide_prior(answers: pd.DataFrame, prior: pd.DataFrame) -> pd.DataFrame:
    """The answers with the prior of their places divided out of `probability`; a ValueError where a number of options has no prior."""
    answers = answers.assign(options=answers.groupby("question")["place"].transform("max"))
    joined = answers.merge(prior.drop(columns="items"), on=[*ANSWERER, "options", "place"], how="left")
    if joined["prior"].isna().any():
        missing = sorted(set(joined.loc[joined["prior"].isna(), "options"].tolist()))
        raise ValueError(f"no place prior for questions of {missing} options: estimate it on a share of them too")
    weight = joined["probability"].clip(lower=_LEAST) / joined["prior"]
    joined["probability"] = _normalise(weight, joined, [*ANSWERER, "question", "order"])
    return joined.drop(columns=["options", "prior"])


def compare_debiasing(answers: pd.DataFrame, *, share: float, seed: int) -> pd.DataFrame:
    """Position bias of every answerer before and after PriDe, on the items that did not give the prior.

    A `share` of the items of one read-out, drawn per number of options and rounded up, gives the prior; Zheng et al. use 0.05 of far
    longer tests.

    Returns
    -------
    DataFrame
        ANSWERER; `spread, spread PriDe`: standard deviation over the places of their mean share over all orders, times the number of
        options (0 = no liking); `first order to average, PriDe to average`: mean total variation distance between the answer in the
        first order and the average over the orders, in [0, 1]; `n` (questions); `same mode`: share of them in which PriDe in the
        first order and the average have the same most probable option.
    """
    rng = np.random.default_rng(seed)
    sizes = answers.groupby("question")["place"].max().sort_index()
    parts = [part.index.to_numpy() for _, part in sizes.groupby(sizes)]
    picked = [name for part in parts for name in rng.choice(part, size=int(np.ceil(share * len(part))), replace=False)]
    chosen = answers["question"].isin(picked)
    rest = drop_extra_order(answers[~chosen])
    divided = divide_prior(rest, estimate_prior(answers[chosen]))
    rows = pd.DataFrame({
        "spread": _spread(rest), "spread PriDe": _spread(divided),
        "first order to average": _distance(rest, rest), "PriDe to average": _distance(divided, rest),
        "n": rest.groupby(ANSWERER, sort=False)["question"].nunique(),
    })  # fmt: skip
    average = average_orders(rest).rename(columns={"share": "label"})
    first = divided[divided["order"] == 0].rename(columns={"probability": "share"})[[*ANSWERER, "question", "code", "share"]]
    same = compare_shares(average.merge(first, on=[*ANSWERER, "question", "code"]))[[*ANSWERER, "same mode"]]
    return rows.reset_index().merge(same, on=ANSWERER)


def _spread(answers: pd.DataFrame) -> pd.Series:
    """Standard deviation of the places' mean shares; each number of options weighs as many questions as it has."""
    answers = answers.assign(options=answers.groupby("question")["place"].transform("max"))
    keys = [*ANSWERER, "options"]
    mean = answers.groupby([*keys, "place"], sort=False)["probability"].mean()
    table = mean.groupby(keys, sort=False).std(ddof=0).rename("spread").reset_index()
    table["count"] = answers.groupby(keys, sort=False)["question"].nunique().to_numpy()
    table["product"] = table["spread"] * table["options"] * table["count"]
    sums = table.groupby(ANSWERER, sort=False)[["product", "count"]].sum()
    return sums["product"] / sums["count"]


def _distance(first: pd.DataFrame, whole: pd.DataFrame) -> pd.Series:
    keys = [*ANSWERER, "question", "code"]
    mean = whole.groupby(keys, sort=False)["probability"].mean()
    one = first[first["order"] == 0].set_index(keys)["probability"]
    gap = (one - mean).abs().groupby([*ANSWERER, "question"], sort=False).sum() / 2
    return gap.groupby(ANSWERER, sort=False).mean()


def _normalise(weight: pd.Series, frame: pd.DataFrame, keys: list[str]) -> pd.Series:
    return weight / weight.groupby([frame[key] for key in keys]).transform("sum")
