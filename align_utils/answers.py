"""What notebooks 05 and 06 say of the answers: quality, distances, and how firm the choice of items is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from align_utils import instrument, stats, values
from align_utils.artifacts import read_frame
from align_utils.config import Config
from align_utils.debias import ANSWERER, drop_extra_order
from align_utils.yardsticks import add_baselines, measure_baselines


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
        frame = frame[~frame["question"].isin(instrument.list_nominal(cfg))]
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
    frames = [values.measure_distances(shares, human).assign(orders=name) for name, shares in readings.items()]
    distances = add_baselines(pd.concat(frames, ignore_index=True), measure_baselines(human, halves).assign(orders="none"))
    by = [*ANSWERER, "orders", "to"]
    run = "seed" if "seed" in distances else None
    table = stats.summarise(distances, by, "wasserstein", unit="question", run=run, **cfg.bootstrap)
    distances["mean_difference"] = distances["mean_difference"].abs()
    others = distances.groupby(by, sort=False)[["jensen_shannon", "mean_difference"]].mean().reset_index()
    return table.merge(others, on=by)
