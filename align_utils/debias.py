"""The liking for a place in the list of options: estimated as PriDe does, divided out, and measured before and after."""

from __future__ import annotations

import numpy as np
import pandas as pd

ANSWERER = ["model", "adapter", "stage", "language", "persona"]
_LEAST = 1e-12


def drop_extra_order(answers: pd.DataFrame) -> pd.DataFrame:
    """The orders in which every option stands in every place equally often: all rotations, all permutations, or both directions.

    `prompts.list_orders` adds the descending order to the rotations for the pair reading; averaged with them it would put the
    last option first too often. It is known by its number: only so there is one order more than options.
    """
    by = answers.groupby("question")
    places, orders = by["place"].transform("max"), by["order"].transform("max") + 1
    return answers[(answers["order"] < places) | (orders != places + 1)]


def estimate_prior(answers: pd.DataFrame) -> pd.DataFrame:
    """PriDe's prior of the places: what an answerer prefers whatever stands there.

    Per question, the softmax over places of the mean logarithm over the rotations (or permutations) of the options, in which each
    option's own appeal is the same at every place; then the mean over the questions with as many options. Of ten-point scales, shown in
    both directions alone, the content cancels only as far as the two ends are liked alike.

    Parameters
    ----------
    answers : DataFrame
        As `survey.ask_survey` writes it, of one read-out.

    Returns
    -------
    DataFrame
        The answerer's columns, `options` (k), `place` (1..k), `prior` (sums to 1 over places), `items` (questions it rests on).

    Source
    ------
    Zheng et al. 2024, Large Language Models Are Not Robust Multiple Choice Selectors (ICLR), section 4.
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
    """The answers with the prior of their places divided out of `probability`: p(o|x) in proportion to p_observed / prior.

    Raises
    ------
    ValueError
        The prior lacks a number of options that was asked.
    """
    answers = answers.assign(options=answers.groupby("question")["place"].transform("max"))
    joined = answers.merge(prior.drop(columns="items"), on=[*ANSWERER, "options", "place"], how="left")
    if joined["prior"].isna().any():
        missing = sorted(set(joined.loc[joined["prior"].isna(), "options"].tolist()))
        raise ValueError(f"no place prior for questions of {missing} options: estimate it on a share of them too")
    weight = joined["probability"].clip(lower=_LEAST) / joined["prior"]
    joined["probability"] = _normalise(weight, joined, [*ANSWERER, "question", "order"])
    return joined.drop(columns=["options", "prior"])


def debias_pride(answers: pd.DataFrame, *, share: float, seed: int) -> pd.DataFrame:
    """Answer distributions by PriDe: what it would give if most items were asked in one order alone.

    The prior comes from a share of the items (drawn per number of options, one at least), which keep their average over the
    orders; of the others the first order counts, the prior divided out.

    Parameters
    ----------
    share : float
        Of the items, in (0, 1]; Zheng et al. use 0.05 of far longer tests.

    Returns
    -------
    DataFrame
        As `answers.average_orders`, with `estimated` (bool: the question gave the prior).
    """
    picked = pick_items(answers, share=share, seed=seed)
    chosen = answers["question"].isin(picked)
    divided = divide_prior(answers[~chosen & (answers["order"] == 0)], estimate_prior(answers[chosen]))
    both = pd.concat([drop_extra_order(answers[chosen]).assign(estimated=True), divided.assign(estimated=False)])
    keys = [*ANSWERER, "question", "code"]
    return both.groupby([*keys, "estimated"], sort=False)["probability"].mean().rename("share").reset_index()


def pick_items(answers: pd.DataFrame, *, share: float, seed: int) -> set[str]:
    """Items that the prior is estimated on: the share of the items of each number of options, rounded up."""
    rng = np.random.default_rng(seed)
    sizes = answers.groupby("question")["place"].max().sort_index()
    parts = [part.index.to_numpy() for _, part in sizes.groupby(sizes)]
    return {name for part in parts for name in rng.choice(part, size=int(np.ceil(share * len(part))), replace=False)}


def measure_bias(answers: pd.DataFrame, *, share: float, seed: int) -> pd.DataFrame:
    """Position bias of every answerer before and after, on the items that did not give the prior.

    Returns
    -------
    DataFrame
        The answerer's columns; `spread, spread PriDe`: standard deviation over the places of their mean share over all
        orders, times the number of options (0 = no liking; the mean over all orders has 0 by its making); `first order to
        average, PriDe to average`: mean total variation distance between the answer in the first order and the average over
        the orders, in [0, 1]; `n` (questions).
    """
    picked = pick_items(answers, share=share, seed=seed)
    rest = drop_extra_order(answers[~answers["question"].isin(picked)])
    divided = divide_prior(rest, estimate_prior(answers[answers["question"].isin(picked)]))
    rows = {
        "spread": _spread(rest), "spread PriDe": _spread(divided),
        "first order to average": _distance(rest, rest), "PriDe to average": _distance(divided, rest),
        "n": rest.groupby(ANSWERER, sort=False)["question"].nunique(),
    }  # fmt: skip
    return pd.DataFrame(rows).reset_index()


def _spread(answers: pd.DataFrame) -> pd.Series:
    answers = answers.assign(options=answers.groupby("question")["place"].transform("max"))
    # Each number of options weighs as many questions as it has.
    mean = answers.groupby([*ANSWERER, "options", "place"], sort=False)["probability"].mean()
    spread = (mean.groupby([*ANSWERER, "options"], sort=False).std(ddof=0)).rename("spread").reset_index()
    spread["spread"] *= spread["options"]
    counts = answers.groupby([*ANSWERER, "options"], sort=False)["question"].nunique().rename("count").reset_index()
    both = spread.merge(counts, on=[*ANSWERER, "options"])
    both["product"] = both["spread"] * both["count"]
    sums = both.groupby(ANSWERER, sort=False)[["product", "count"]].sum()
    return sums["product"] / sums["count"]


def _distance(first: pd.DataFrame, whole: pd.DataFrame) -> pd.Series:
    keys = [*ANSWERER, "question", "code"]
    mean = whole.groupby(keys, sort=False)["probability"].mean()
    one = first[first["order"] == 0].set_index(keys)["probability"]
    gap = (one - mean).abs().groupby([*ANSWERER, "question"], sort=False).sum() / 2
    return gap.groupby(ANSWERER, sort=False).mean()


def _normalise(weight: pd.Series, frame: pd.DataFrame, keys: list[str]) -> pd.Series:
    return weight / weight.groupby([frame[key] for key in keys]).transform("sum")
