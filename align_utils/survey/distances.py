"""Distances between answers, and the references beside them: the other country, half of the people, even answers."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import pandera.pandas as pa

from align_utils.config.settings import Culture
from align_utils.stats import jensen_shannon, summarise
from align_utils.survey.answers import ANSWERER, average_orders

# Stages of the references; `human` is the other country wherever a distance to a country is taken.
REFERENCES = ("human", "human_half", "uniform")
# What stands in the column `model` of a reference; in stored tables, so it stays.
REFERENCE_MODEL = "baseline"
# A high-tension set below it could show next to nothing; of 55 items it is a third.
FEWEST = 18
# The country of which the paper counts answers, and two cultures to compare: (away, toward).
CHINA = "CHN"
Pair = tuple[str, str] | None


def wasserstein(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Wasserstein-1 distance of distributions on an ordered scale, divided by k - 1: in [0, 1], 1 when all mass sits at opposite ends.

    `p, q` have shape (..., k), k at least 2: shares over the scale's points in order, each row summing to 1 (not checked).

    >>> float(wasserstein(np.array([1.0, 0, 0]), np.array([0, 0, 1.0])))
    1.0
    """
    return np.abs(np.cumsum(p - q, axis=-1)[..., :-1]).sum(axis=-1) / (p.shape[-1] - 1)


def mean_difference(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Difference of the mean scores row by row, p minus q, divided by k - 1: in [-1, 1], never further from 0 than `wasserstein`."""
    return np.vecdot(p - q, np.arange(p.shape[-1], dtype=float)) / (p.shape[-1] - 1)


DISTANCE_MEASURES = {"wasserstein": wasserstein, "jensen_shannon": jensen_shannon, "mean_difference": mean_difference}
# One row an answerer (or reference), question and country `to` (culture) that it is measured against.
DISTANCES = pa.DataFrameSchema({
    **{name: pa.Column(str) for name in ANSWERER}, "seed": pa.Column(int), "question": pa.Column(str), "to": pa.Column(str),
    **{name: pa.Column(float, pa.Check.in_range(-(name == "mean_difference") - 1e-9, 1 + 1e-9)) for name in DISTANCE_MEASURES},
})  # fmt: skip


def add_references(answers: pd.DataFrame, human: pd.DataFrame, halves: pd.DataFrame) -> pd.DataFrame:
    """Models' answers, and below them those of the references: every country, the first half of its people, even answers.

    `answers` (ANSWERER, `seed, question, code, share`) are from `answers.average_orders`, `human` are SHARES, `halves` from
    `human.draw_halves`. Of a reference `stage` is one of REFERENCES, `adapter` the people's culture or 'none', `seed` 0.
    """
    even = human.drop_duplicates(["question", "code"])
    even = even.assign(share=1 / even.groupby("question")["code"].transform("size"), culture="none")
    parts = {"human": human, "human_half": halves[halves["half"] == 1], "uniform": even}
    rows = pd.concat([part.assign(stage=stage, adapter=part["culture"]) for stage, part in parts.items()])
    rows = rows.assign(model=REFERENCE_MODEL, language="none", persona="none", seed=0)
    return pd.concat([answers, rows[[*ANSWERER, "seed", "question", "code", "share"]]], ignore_index=True)


def measure_distances(answers: pd.DataFrame, human: pd.DataFrame, halves: pd.DataFrame) -> pd.DataFrame:
    """Distance of every answerer to every country, per item; a half of the people is held against the other halves.

    `answers` are from `add_references`. Returns DISTANCES; a country's distance to itself is left out, and so is what `human` does not hold. A ValueError names an answer that is no distribution over the
    item's points.
    """
    answers = answers[answers["question"].isin(human["question"])]
    is_half = answers["stage"] == "human_half"
    whole = _measure(answers[~is_half], human)
    whole = whole[(whole["stage"] != "human") | (whole["adapter"] != whole["to"])]
    return DISTANCES.validate(pd.concat([whole, _measure(answers[is_half], halves[halves["half"] == 2])], ignore_index=True))


def _measure(answers: pd.DataFrame, human: pd.DataFrame) -> pd.DataFrame:
    names = [column for column in answers.columns if column not in {"code", "share", "question"}]
    answers = answers.assign(row=answers.groupby([*names, "question"], sort=False, dropna=False).ngroup())
    people = dict(tuple(human.groupby("question", sort=False)))
    parts = []
    for question, part in answers.groupby("question", sort=False):
        codes = people[question]["code"].unique()
        given = part.pivot(index="row", columns="code", values="share").reindex(columns=codes)
        shares = given.to_numpy(dtype=float)
        if len(codes) < 2 or not ((shares >= 0).all() and np.allclose(shares.sum(axis=1), 1, rtol=0, atol=1e-6)):
            raise ValueError(f"{question}: not a distribution over the codes {codes.tolist()}: {shares.tolist()}")
        for place, (culture, own) in enumerate(people[question].groupby("culture", sort=False)):
            found = {name: measure(shares, own["share"].to_numpy()) for name, measure in DISTANCE_MEASURES.items()}
            parts.append(pd.DataFrame({"row": given.index, "question": question, "to": culture, **found, "place": place}))
    found = pd.concat(parts).sort_values(["row", "place"]).drop(columns="place")
    return answers.drop_duplicates("row")[["row", *names]].merge(found, on="row").drop(columns="row")


def summarise_distances(answers: pd.DataFrame, human: pd.DataFrame, halves: pd.DataFrame, **bootstrap) -> pd.DataFrame:
    """Mean distance of every answerer to every country, in both readings of the orders, with the references.

    `answers` are ANSWERS, `human` SHARES, `halves` from `human.draw_halves`; several seeds are a second level of the intervals. Returns
    ANSWERER, `orders` ('all' or 'pair'), `to`, `value, low, high, n` (Wasserstein), `jensen_shannon` (mean), `mean_difference` (mean size
    of the difference of mean scores, whatever its sign).
    """
    readings = {"all": average_orders(answers), "pair": average_orders(answers, pair_only=True)}
    shares = pd.concat([shares.assign(orders=name) for name, shares in readings.items()], ignore_index=True)
    distances = measure_distances(add_references(shares, human, halves).fillna({"orders": "none"}), human, halves)
    by = [*ANSWERER, "orders", "to"]
    table = summarise(distances, by, "wasserstein", unit="question", run="seed", **bootstrap)
    distances["mean_difference"] = distances["mean_difference"].abs()
    others = distances.groupby(by, sort=False)[["jensen_shannon", "mean_difference"]].mean().reset_index()
    return table.merge(others, on=by)


def pick_pair(cultures: Mapping[str, Culture]) -> Pair:
    """The two cultures of the sections that compare two countries: (away, toward).

    `toward` is China's, wherever it stands, else the first of another country than the run's first; `away` is the first of another
    country than `toward`. None where all of the run's cultures are of one country.
    """
    countries = {name: culture.survey_country for name, culture in cultures.items()}
    start = next(iter(countries.values()))
    toward = max(countries, key=lambda name: (countries[name] == CHINA, countries[name] != start))
    away = next((name for name, country in countries.items() if country != countries[toward]), None)
    return (away, toward) if away else None


def rank_items(human: pd.DataFrame, pair: Pair, *, wanted: int) -> pd.DataFrame:
    """Items by the distance between two countries (their tension), largest first; `chosen` marks the high-tension set.

    `human` are SHARES, `wanted` is the size of the set (`choose_size`). Returns `question, tension` (Wasserstein), `chosen`; ties in the
    order of the question; no items without a pair.
    """
    shares = {key: part["share"].to_numpy() for key, part in human.groupby(["question", "culture"], sort=False)}
    questions = human["question"].unique() if pair else []
    tension = [wasserstein(*(shares[question, culture] for culture in pair)) for question in questions]
    frame = pd.DataFrame({"question": questions, "tension": tension})
    frame = frame.sort_values(["tension", "question"], ascending=[False, True], ignore_index=True)
    return frame.assign(chosen=frame.index < choose_size(len(frame), wanted))


def choose_size(available: int, wanted: int) -> int:
    """How many items make a high-tension set: as many as wanted, but at most a third of those there are (else it is no choice).

    Where a third is fewer than `FEWEST`, that many are taken, as long as they are no more than half of the items.

    >>> choose_size(233, 50), choose_size(60, 50), choose_size(36, 50), choose_size(20, 50)
    (50, 20, 18, 10)
    """
    return min(wanted, available // 2, max(FEWEST, available // 3))


def name_answerer(model: str, culture: str, stage: str, language: str) -> str:
    """An answerer in words: 'm cn sft, asked in zh', 'people, cn', 'even answers'."""
    told = {"human": f"people, {culture}", "human_half": f"half of the people, {culture}", "uniform": "even answers"}
    tuned = "untuned" if culture == "none" else f"{culture} {stage}"
    return told.get(stage, f"{model} {tuned}, asked in {language}")
