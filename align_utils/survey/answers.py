"""Answers of the models: averages, checks between read-outs, and position bias."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from align_utils.config.profiles import Config
from align_utils.stats import summarise
from align_utils.store.steps import read_frame
from align_utils.survey.distances import add_baselines, measure_baselines, measure_distances
from align_utils.survey.items import list_nominal


def load_answers(cfg: Config, *, readout: str | None = "label", nominal: bool = False) -> pd.DataFrame:
    """All answers of the run by one read-out (None: by all), one row an answer option of a presentation (`survey.ask_survey`).

    Parameters
    ----------
    nominal : bool, default False
        Also the answers to items without an order, which the map alone may use.
    """
    frame = pd.concat([read_answers(cfg, path) for path in list_files(cfg)], ignore_index=True)
    if readout is not None:
        frame = frame[frame["readout"] == readout]
    if not nominal:
        frame = frame[~frame["question"].isin(list_nominal(cfg))]
    return frame.reset_index(drop=True)


def read_answers(cfg: Config, path: Path) -> pd.DataFrame:
    """One file of answers; a file from before several seeds were asked has no `seed` and is of the profile's own."""
    frame = read_frame(path, made_by="05_wvs_survey")
    return frame if "seed" in frame else frame.assign(seed=cfg.profile.seed)


def pick_seed(cfg: Config, frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of the profile's own seed, the untuned model's among them."""
    return frame[frame["seed"] == cfg.profile.seed].reset_index(drop=True)


def list_files(cfg: Config) -> list[Path]:
    """Files of the run's answers: a file a model, and one for each baseline that was asked."""
    paths = {name: cfg.runs / "survey" / f"{name}.parquet" for name in (*cfg.models, *cfg.baselines)}
    return [path for name, path in paths.items() if name in cfg.models or path.is_file()]


def average_orders(answers: pd.DataFrame, *, pair_only: bool = False) -> pd.DataFrame:
    """Answer distributions, averaged over option orders.

    Parameters
    ----------
    pair_only : bool
        Take the ascending and the descending order alone (the first and the last of `prompts.list_orders`).

    Returns
    -------
    DataFrame
        The answerer's columns, `seed` where given, `question, code, share`; shares of a question sum to 1.
    """
    if pair_only:
        last = answers.groupby("question")["order"].transform("max")
        answers = answers[answers["order"].isin([0]) | (answers["order"] == last)]
    else:
        answers = drop_extra_order(answers)
    keys = [*ANSWERER, *({"seed"} & set(answers)), "question", "code"]
    return answers.groupby(keys, sort=False)["probability"].mean().rename("share").reset_index()


def describe_answers(answers: pd.DataFrame) -> pd.DataFrame:
    """Option mass, place prior and entropy of every answerer.

    Returns
    -------
    DataFrame
        The answerer's columns, `option mass` (mean probability on the labels, in [0, 1]), `first place` and `last place` (mean
        share minus 1/k: 0 = no liking), `entropy` (of the averaged answers, 1 = uniform), `empty` (presentations of which no option
        has any mass: they count as even answers), `n` (questions).
    """
    rows = []
    answers = drop_extra_order(answers)
    keys = ["question", "order"]
    averaged = dict(tuple(average_orders(answers).groupby(ANSWERER, sort=False)))
    for key, part in answers.groupby(ANSWERER, sort=False):
        size = part.groupby(keys)["place"].transform("max")
        excess = part["probability"] - 1 / size
        shares = averaged[key].groupby("question")["share"]
        entropy = shares.apply(lambda p: float(-(p * np.log(p.clip(lower=1e-12))).sum() / np.log(len(p))))
        masses = part.drop_duplicates(keys)["option_mass"]
        rows.append(dict(zip(ANSWERER, key, strict=True)) | {
            "option mass": masses.mean(), "first place": excess[part["place"] == 1].mean(),
            "last place": excess[part["place"] == size].mean(), "entropy": entropy.mean(),
            "empty": int((masses == 0).sum()), "n": part["question"].nunique(),
        })  # fmt: skip
    return pd.DataFrame(rows)


def tabulate_means(cfg: Config, averaged: pd.DataFrame, human: pd.DataFrame) -> pd.DataFrame:
    """Mean answers for the heatmap: items down, people and answerers across, 0 = first point of the scale, 1 = last."""
    people = human.assign(answerer="people " + human["culture"])
    names = averaged["adapter"].where(averaged["adapter"] != "none", "vanilla")
    labels = [
        f"{cfg.label(model, adapter)} {stage} {language}".replace("vanilla zero_shot", "vanilla")
        for model, adapter, stage, language in zip(
            averaged["model"], names, averaged["stage"], averaged["language"], strict=True
        )
    ]
    both = pd.concat([people, averaged.assign(answerer=labels)])
    scale = {
        question: part["code"].tolist()
        for question, part in human.drop_duplicates(["question", "code"]).groupby("question", sort=False)
    }
    both["position"] = [
        scale[q].index(code) / (len(scale[q]) - 1) for q, code in zip(both["question"], both["code"], strict=True)
    ]
    both["mean"] = both["position"] * both["share"]
    wide = both.groupby(["question", "answerer"], sort=False)["mean"].sum().unstack("answerer")
    return wide.reindex(columns=list(dict.fromkeys(both["answerer"]))).reindex(list(scale))


def summarise_distances(cfg: Config, answers: pd.DataFrame, human: pd.DataFrame, halves: pd.DataFrame) -> pd.DataFrame:
    """Mean distance of every answerer to every country, both order readings, with the yardsticks of `yardsticks`.

    Parameters
    ----------
    answers : DataFrame
        From `load_answers`; several seeds are a second level of the intervals.
    halves : DataFrame
        Split halves of the people, see `yardsticks.build_baselines`.

    Returns
    -------
    DataFrame
        Answerer's columns, `orders` ('all' or 'pair'), `to`, `value, low, high, n` (Wasserstein), `jensen_shannon` (mean),
        `mean_difference` (mean size of the difference of mean scores, whatever its sign).
    """
    readings = {"all": average_orders(answers), "pair": average_orders(answers, pair_only=True)}
    frames = [measure_distances(shares, human).assign(orders=name) for name, shares in readings.items()]
    distances = add_baselines(pd.concat(frames, ignore_index=True), measure_baselines(human, halves).assign(orders="none"))
    by = [*ANSWERER, "orders", "to"]
    run = "seed" if "seed" in distances else None
    table = summarise(distances, by, "wasserstein", unit="question", run=run, **cfg.bootstrap)
    distances["mean_difference"] = distances["mean_difference"].abs()
    others = distances.groupby(by, sort=False)[["jensen_shannon", "mean_difference"]].mean().reset_index()
    return table.merge(others, on=by)


def load_generated(cfg: Config) -> pd.DataFrame | None:
    """Parsed greedy answers of all models (`survey.write_answers`), of the profile's own seed; None where it does not ask for them."""
    if "generated" not in cfg.profile.survey.readouts:
        return None
    paths = [cfg.runs / "survey" / f"{model}_generated.parquet" for model in cfg.models]
    return pick_seed(cfg, pd.concat([read_answers(cfg, path) for path in paths], ignore_index=True))


def describe_readouts(answers: pd.DataFrame) -> pd.DataFrame:
    """Option mass, refusal mass, place prior and entropy of every answerer, a row a read-out.

    Returns
    -------
    DataFrame
        `readout`, the columns of `answers.describe_answers`, `refusal mass` (mean probability over the sampled items of the listed refusals after the
        open lead, in [0, 1]; with the label alone).
    """
    rows = []
    for readout, part in answers.groupby("readout", sort=False):
        refusal = part.drop_duplicates([*ANSWERER, "question"]).groupby(ANSWERER, sort=False)["refusal_mass"].mean()
        table = describe_answers(part).merge(refusal.rename("refusal mass").reset_index(), on=ANSWERER)
        table.insert(0, "readout", readout)
        rows.append(table)
    return pd.concat(rows, ignore_index=True)


def compare_readouts(answers: pd.DataFrame, generated: pd.DataFrame | None = None) -> pd.DataFrame:
    """Agreement of every read-out with the label's, over the questions that both answer.

    Parameters
    ----------
    answers : DataFrame
        Of all read-outs (`answers.load_answers` with `readout=None`).
    generated : DataFrame, optional
        As `survey.write_answers`; compared with the label's first order alone, in which it was asked.

    Returns
    -------
    DataFrame
        The answerer's columns, `readout, same mode` (share of the questions whose most probable option is the same), `distance`
        (mean total variation, in [0, 1]), `parsed` (share of generated texts that name an option), `chance` (mean of 1/k), `n`.
    """
    shares = {key: average_orders(part) for key, part in answers.groupby("readout", sort=False)}
    label = shares.pop("label").rename(columns={"share": "label"})
    parts = [
        _compare(label.merge(other, on=[*ANSWERER, "question", "code"])).assign(readout=key) for key, other in shares.items()
    ]
    if generated is not None:
        named = generated[generated["place"] > 0][[*ANSWERER, "question", "place"]].rename(columns={"place": "named"})
        first = answers[(answers["readout"] == "label") & (answers["order"] == 0)]
        both = first.rename(columns={"probability": "label"}).merge(named, on=[*ANSWERER, "question"])
        both["share"] = (both["place"] == both["named"]).astype(float)
        parsed = (generated["place"] > 0).groupby([generated[key] for key in ANSWERER], sort=False).mean()
        table = parsed.rename("parsed").reset_index().merge(_compare(both), on=ANSWERER, how="left")
        parts.append(table.assign(readout="generated", n=table["n"].fillna(0).astype(int)))
    columns = [*ANSWERER, "readout", "same mode", "distance", "parsed", "chance", "n"]
    return (
        pd.concat([pd.DataFrame(columns=columns), *parts], ignore_index=True)[columns]
        if parts
        else pd.DataFrame(columns=columns)
    )


def _compare(both: pd.DataFrame) -> pd.DataFrame:
    keys = [*ANSWERER, "question"]
    by = both.groupby(keys, sort=False)
    top = both[both["label"] == by["label"].transform("max")]
    table = pd.DataFrame({
        "same mode": top.groupby(keys, sort=False)["share"].max() == by["share"].max(),
        "distance": (both["label"] - both["share"]).abs().groupby([both[key] for key in keys], sort=False).sum() / 2,
        "chance": 1 / by.size(),
    })  # fmt: skip
    mean = table.groupby(ANSWERER, sort=False).mean()
    return mean.assign(n=table.groupby(ANSWERER, sort=False).size()).reset_index()


def compare_debiasing(answers: pd.DataFrame, *, share: float, seed: int) -> pd.DataFrame:
    """Position bias before and after (`debias.measure_bias`), with how often PriDe and the order average have the same mode.

    Parameters
    ----------
    answers : DataFrame
        Of one read-out.
    share : float
        Share of the items that give PriDe's prior; the figures are of the others.
    """
    pride = debias_pride(answers, share=share, seed=seed)
    pride = pride[~pride["estimated"]].drop(columns="estimated")
    average = average_orders(answers).rename(columns={"share": "label"})
    same = _compare(average.merge(pride, on=[*ANSWERER, "question", "code"]))[[*ANSWERER, "same mode"]]
    return measure_bias(answers, share=share, seed=seed).merge(same, on=ANSWERER)


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
