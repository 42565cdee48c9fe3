"""Answers of the models: loaded, averaged over orders, their quality, and read-outs compared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from align_utils.config.profiles import Config
from align_utils.stats import summarise
from align_utils.store.steps import read_frame
from align_utils.survey.distances import add_references, measure_distances
from align_utils.survey.items import list_nominal
from align_utils.survey.questions import ANSWERER, ANSWERS


def load_answers(cfg: Config, *, readout: str | None = "label", nominal: bool = False) -> pd.DataFrame:
    """All answers of the run.

    Parameters
    ----------
    readout : str or None, default 'label'
        One of the read-outs; None: all.
    nominal : bool, default False
        Also the answers to items without an order, which the map alone may use.

    Returns
    -------
    DataFrame
        ANSWERS, one row an answer option of a question in one order.
    """
    frame = pd.concat([read_frame(path, made_by="05_wvs_survey") for path in list_files(cfg)], ignore_index=True)
    ANSWERS.validate(frame)
    if readout is not None:
        frame = frame[frame["readout"] == readout]
    if not nominal:
        frame = frame[~frame["question"].isin(list_nominal(cfg))]
    return frame.reset_index(drop=True)


def load_generated(cfg: Config) -> pd.DataFrame | None:
    """Parsed greedy answers of all models (`ask.write_answers`), of the profile's own seed; None where it does not ask for them."""
    if "generated" not in cfg.profile.survey.readouts:
        return None
    paths = [cfg.runs / "survey" / f"{model}_generated.parquet" for model in cfg.models]
    return pick_seed(cfg, pd.concat([read_frame(path, made_by="05_wvs_survey") for path in paths], ignore_index=True))


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
        ANSWERER, `seed` where given, `question, code, share`; shares of a question sum to 1.
    """
    if pair_only:
        last = answers.groupby("question")["order"].transform("max")
        answers = answers[answers["order"].isin([0]) | (answers["order"] == last)]
    else:
        answers = drop_extra_order(answers)
    keys = [*ANSWERER, *({"seed"} & set(answers)), "question", "code"]
    return answers.groupby(keys, sort=False)["probability"].mean().rename("share").reset_index()


def drop_extra_order(answers: pd.DataFrame) -> pd.DataFrame:
    """The orders in which every option stands in every place equally often: all rotations, or both directions.

    `prompts.list_orders` adds the descending order to the rotations for the pair reading; averaged with them it would put the
    last option first too often. It is known by its number: only so there is one order more than options.
    """
    by = answers.groupby("question")
    places, orders = by["place"].transform("max"), by["order"].transform("max") + 1
    return answers[(answers["order"] < places) | (orders != places + 1)]


def tabulate_means(cfg: Config, averaged: pd.DataFrame, human: pd.DataFrame) -> pd.DataFrame:
    """Mean answers for the heatmap: items down, people and answerers across, 0 = first point of the scale, 1 = last."""
    names = averaged["adapter"].where(averaged["adapter"] != "none", "vanilla")
    labels = [
        f"{cfg.label(model, adapter)} {stage} {language}".replace("vanilla zero_shot", "vanilla")
        for model, adapter, stage, language in zip(
            averaged["model"], names, averaged["stage"], averaged["language"], strict=True
        )
    ]
    both = pd.concat([human.assign(answerer="people " + human["culture"]), averaged.assign(answerer=labels)])
    points = human.drop_duplicates(["question", "code"])[["question", "code"]]
    by = points.groupby("question", sort=False)["code"]
    points["position"] = by.cumcount() / (by.transform("size") - 1)
    both = both.merge(points, on=["question", "code"])
    both["mean"] = both["position"] * both["share"]
    wide = both.groupby(["question", "answerer"], sort=False)["mean"].sum().unstack("answerer")
    return wide.reindex(index=points["question"].unique(), columns=both["answerer"].unique())


def summarise_distances(cfg: Config, answers: pd.DataFrame, human: pd.DataFrame, halves: pd.DataFrame) -> pd.DataFrame:
    """Mean distance of every answerer to every country, in both readings of the orders, with the references.

    `human` are SHARES, `halves` from `respondents.draw_halves`; several seeds are a second level of the intervals. Returns ANSWERER,
    `orders` ('all' or 'pair'), `to`, `value, low, high, n` (Wasserstein), `jensen_shannon` (mean), `mean_difference` (mean size of the
    difference of mean scores, whatever its sign).
    """
    readings = {"all": average_orders(answers), "pair": average_orders(answers, pair_only=True)}
    shares = pd.concat([shares.assign(orders=name) for name, shares in readings.items()], ignore_index=True)
    distances = measure_distances(add_references(shares, human, halves).fillna({"orders": "none"}), human, halves)
    by = [*ANSWERER, "orders", "to"]
    run = "seed" if "seed" in distances else None
    table = summarise(distances, by, "wasserstein", unit="question", run=run, **cfg.bootstrap)
    distances["mean_difference"] = distances["mean_difference"].abs()
    others = distances.groupby(by, sort=False)[["jensen_shannon", "mean_difference"]].mean().reset_index()
    return table.merge(others, on=by)


def describe_readouts(answers: pd.DataFrame) -> pd.DataFrame:
    """How well every answerer answers, a row a read-out.

    Returns
    -------
    DataFrame
        `readout`, ANSWERER, `option mass` (mean probability on the options, in [0, 1]), `first place` and `last place` (mean share
        minus 1/k: 0 = no liking), `entropy` (of the averaged answers, 1 = uniform), `empty` (how often no option had any mass: such
        count as even answers), `n` (questions), `refusal mass` (mean probability over the sampled items of the listed refusals after
        the open lead, in [0, 1]; with the label alone).
    """
    by = ["readout", *ANSWERER]
    refusals = answers.drop_duplicates([*by, "question"]).groupby(by)["refusal_mass"].mean()
    rows = []
    for readout, all_orders in answers.groupby("readout", sort=False):
        for key, part in drop_extra_order(all_orders).groupby(ANSWERER, sort=False):
            size = part.groupby(["question", "order"])["place"].transform("max")
            excess = part["probability"] - 1 / size
            shares = average_orders(part).groupby("question")["share"]
            entropy = shares.apply(lambda p: float(-(p * np.log(p.clip(lower=1e-12))).sum() / np.log(len(p))))
            first = part.drop_duplicates(["question", "order"])
            rows.append({"readout": readout} | dict(zip(ANSWERER, key, strict=True)) | {
                "option mass": first["option_mass"].mean(), "first place": excess[part["place"] == 1].mean(),
                "last place": excess[part["place"] == size].mean(), "entropy": entropy.mean(),
                "empty": int((first["option_mass"] == 0).sum()), "n": part["question"].nunique(),
                "refusal mass": refusals[readout, *key],
            })  # fmt: skip
    return pd.DataFrame(rows)


def compare_readouts(answers: pd.DataFrame, generated: pd.DataFrame | None = None) -> pd.DataFrame:
    """Agreement of every read-out with the label's, over the questions that both answer.

    `answers` are ANSWERS of all read-outs; `generated` (`load_generated`) is compared with the label's first order alone, in which it was
    asked. Returns ANSWERER, `readout, same mode` (share of the questions whose most probable option is the same), `distance` (mean
    total variation, in [0, 1]), `parsed` (share of generated texts that name an option), `chance` (mean of 1/k), `n`.
    """
    shares = {key: average_orders(part) for key, part in answers.groupby("readout", sort=False)}
    label = shares.pop("label").rename(columns={"share": "label"})
    keys = [*ANSWERER, "question", "code"]
    parts = [compare_shares(label.merge(other, on=keys)).assign(readout=key) for key, other in shares.items()]
    if generated is not None:
        named = generated[generated["place"] > 0][[*ANSWERER, "question", "place"]].rename(columns={"place": "named"})
        first = answers[(answers["readout"] == "label") & (answers["order"] == 0)]
        both = first.rename(columns={"probability": "label"}).merge(named, on=[*ANSWERER, "question"])
        both["share"] = (both["place"] == both["named"]).astype(float)
        parsed = (generated["place"] > 0).groupby([generated[key] for key in ANSWERER], sort=False).mean()
        table = parsed.rename("parsed").reset_index().merge(compare_shares(both), on=ANSWERER, how="left")
        parts.append(table.assign(readout="generated", n=table["n"].fillna(0).astype(int)))
    columns = [*ANSWERER, "readout", "same mode", "distance", "parsed", "chance", "n"]
    return pd.concat([pd.DataFrame(columns=columns), *parts], ignore_index=True)[columns]


def compare_shares(both: pd.DataFrame) -> pd.DataFrame:
    """ANSWERER, `same mode, distance, chance, n` of two distributions, `label` and `share`, over the options of the same questions."""
    keys = [*ANSWERER, "question"]
    by = both.groupby(keys, sort=False)
    top = both[both["label"] == by["label"].transform("max")]
    table = pd.DataFrame({
        "same mode": top.groupby(keys, sort=False)["share"].max() == by["share"].max(),
        "distance": (both["label"] - both["share"]).abs().groupby([both[key] for key in keys], sort=False).sum() / 2,
        "chance": 1 / by.size(),
    })  # fmt: skip
    of = table.groupby(ANSWERER, sort=False)
    return of.mean().assign(n=of.size()).reset_index()
