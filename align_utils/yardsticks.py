"""Answerers that are no model of the run: people of each country, half of them against the other half, and even answers."""

from __future__ import annotations

import pandas as pd

from align_utils import values

ANSWERER = ["model", "adapter", "stage", "language", "persona"]
# The stages of the baselines; `human` is the other country wherever a distance to a country is taken.
STAGES = ("human", "human_half", "uniform")
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
    distances = values.measure_distances(rows[~is_half], human)
    distances = distances[(distances["stage"] != "human") | (distances["adapter"] != distances["to"])]
    return pd.concat([distances, values.measure_distances(rows[is_half], halves[halves["half"] == 2])], ignore_index=True)


def add_baselines(answers: pd.DataFrame, baselines: pd.DataFrame) -> pd.DataFrame:
    """Models' answers, or distances, and the baselines' below them; a baseline is no training run: its `seed`, where models have one, is 0."""
    return pd.concat([answers, baselines.assign(seed=0) if "seed" in answers else baselines], ignore_index=True)


def pick_model(frame: pd.DataFrame, model: str, persona: str) -> pd.DataFrame:
    """Rows of one model asked in one persona, and of the baselines."""
    mine = (frame["model"] == model) & (frame["persona"] == persona)
    return frame[mine | (frame["model"] == _NAMES["model"])]
