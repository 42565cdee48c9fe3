"""The items on which two countries differ most: whose answers are nearer, whose modal answer it is, and what counts can say."""

from __future__ import annotations

import numpy as np
import pandas as pd

from align_utils.config.profiles import Config
from align_utils.stats import (
    ALONE,
    add_holm,
    bootstrap_levels,
    count_flips,
    mcnemar_exact,
    pair_conditions,
    permute_signs,
    repeat_runs,
    spread_seeds,
    wilson_interval,
)  # fmt: skip
from align_utils.survey.answers import ANSWERER
from align_utils.survey.distances import DISTANCE_MEASURES, REFERENCES, Pair, name_answerer
from align_utils.survey.shifts import CELL, REFERENCE_SHIFTS, list_pairs

# What is not tuned, and so not tested.
UNTESTED = ("zero_shot", *REFERENCES)
# Share of an answer by which the first option must lead to be the modal answer; below lies rounding.
LEAD = 1e-9
COUNTS = [
    "label", "reading", "model", "culture", "stage", "language", "persona", "value", "low", "high", "count", "n", "shared", "gained", "lost", "p",
]  # fmt: skip


def judge_items(
    distances: pd.DataFrame, answers: pd.DataFrame, human: pd.DataFrame, ranked: pd.DataFrame, pair: Pair
) -> pd.DataFrame:
    """For every chosen item and answerer: is it on the side of the second of a pair of cultures, by two readings?

    `distances` and `answers` are of the same models and references (`distances.measure_distances`, `add_references`), `human` are SHARES,
    `ranked` is from `distances.rank_items`. Returns the answerer's columns, `question`, `reading`
    ('nearer': nearer distribution; 'mode': the same modal answer), `aligned` (bool; ties count as no), `shared` (bool: both
    countries have the same modal answer).
    """
    names = [column for column in distances.columns if column not in {"question", "to", *DISTANCE_MEASURES}]
    chosen = set(ranked.loc[ranked["chosen"], "question"])
    if pair is None:
        return pd.DataFrame(columns=[*names, "question", "reading", "aligned", "shared"])
    away, toward = pair
    wide = distances[distances["question"].isin(chosen)].pivot(index=[*names, "question"], columns="to", values="wasserstein")
    wide = wide.fillna(0.0)  # only a whole country lacks a distance: that to itself
    nearer = (wide[toward] < wide[away]).rename("aligned").reset_index().assign(reading="nearer")
    people = find_modes(human, ["culture"]).pivot(index="question", columns="culture", values="mode")
    mode = find_modes(answers[answers["question"].isin(chosen)], names)
    mode["aligned"] = mode["mode"].to_numpy() == people[toward].reindex(mode["question"]).to_numpy()
    both = pd.concat([nearer, mode.drop(columns="mode").assign(reading="mode")], ignore_index=True)
    both = distances[names].drop_duplicates().merge(both, on=names)
    return both.assign(shared=both["question"].map(people[toward] == people[away]))


def find_modes(answers: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """`by`, `question` and `mode`, the code of the modal answer; NaN where two options share the lead, as in even answers."""
    keys = [*by, "question"]
    ranked = answers.sort_values("share", ascending=False, kind="stable")
    first, second = (ranked.groupby(keys, sort=False).nth(place).set_index(keys) for place in (0, 1))
    clear = first["share"] - second["share"].reindex(first.index) > LEAD
    return first["code"].where(clear).rename("mode").reset_index()


def count_aligned(judged: pd.DataFrame, *, resamples: int, level: float, seed: int) -> pd.DataFrame:
    """How many of the chosen items each answerer has on the side of `toward`, before and after tuning, by both readings.

    `judged` is from `judge_items`, several models and references together; `resamples, level, seed` are of the intervals
    (`cfg.bootstrap`).

    Returns `label, reading`, `model, culture` (of the norms or people), `stage, language, persona, value, low, high` (share,
    Wilson), `count, n, shared` (items with one modal answer in both countries), `gained, lost` against the untuned model, `p`
    (exact McNemar), `p_holm` (family: the tuned rows of a reading). References and the untuned model are not tested. Of an
    answerer with several seeds the counts are means over seeds, the interval is a bootstrap over items and seeds, and p is that
    of random signs of the items' mean change over seeds (with one seed that is McNemar's test).
    """
    flips = count_flips(resamples, judged.loc[~judged["stage"].isin(UNTESTED), ANSWERER].drop_duplicates(), [])
    settings, rows = {"resamples": resamples, "level": level, "seed": seed}, []
    for (reading, model, language, persona), part in judged.groupby(["reading", "model", "language", "persona"], sort=False):
        base = part[part["stage"] == "zero_shot"].set_index("question")["aligned"]
        for (culture, stage), mine in part.groupby(["adapter", "stage"], sort=False):
            rows.append({
                "label": name_answerer(model, culture, stage, language), "reading": reading,
                "model": model, "culture": culture, "stage": stage, "language": language, "persona": persona,
                **_count(mine, None if stage in UNTESTED else base, flips, settings),
            })  # fmt: skip
    table = pd.DataFrame(rows, columns=COUNTS)
    return add_holm(table, ["reading"])


def _count(mine: pd.DataFrame, base: pd.Series | None, flips: int, settings: dict) -> dict:
    """`value` to `p` of a row of `count_aligned`; `base`: was the item aligned before tuning (None: not tested)?"""
    runs = mine["seed"].nunique()
    count, n, gained, lost, p = int(mine["aligned"].sum()), mine["question"].nunique(), np.nan, np.nan, np.nan
    if runs == 1:
        low, high = wilson_interval(count, n, level=settings["level"])
    else:
        low, high = bootstrap_levels(mine["aligned"], mine["question"], mine["seed"], **settings)[1:]
    if base is not None:
        change = mine["aligned"].astype(int) - mine["question"].map(base).astype(int)
        gained, lost = int((change > 0).sum()), int((change < 0).sum())
        means = change.groupby(mine["question"], sort=False).mean()
        signs = {"resamples": flips, "seed": settings["seed"]}
        p = mcnemar_exact(gained, lost) if runs == 1 else permute_signs(means, means.index, **signs)
    return {
        "value": mine["aligned"].mean(), "low": low, "high": high, "count": count if runs == 1 else count / runs, "n": n,
        "shared": int(mine.drop_duplicates("question")["shared"].sum()), "gained": gained / runs, "lost": lost / runs, "p": p,
    }  # fmt: skip


def list_sides(cfg: Config, counts: pd.DataFrame, pair: Pair) -> pd.DataFrame:
    """Rows of `count_aligned` for the figure of the main line: the nearer distribution, asked in the language of the second of the pair,
    untuned and with its norms, and even answers; named plainly."""
    if pair is None:
        return counts.head(0)
    own = counts["culture"].isin(["none", pair[1]]) & (counts["language"] == cfg.cultures[pair[1]].language)
    part = counts[(own | (counts["stage"] == "uniform")) & (counts["reading"] == "nearer")]
    names = part["stage"].map(cfg.names)
    alone = (len(cfg.models) == 1) | (part["stage"] == "uniform")
    return part.assign(label=names.where(alone, part["model"] + ", " + names))


def summarise_seeds(shifts: pd.DataFrame, judged: pd.DataFrame) -> pd.DataFrame:
    """Mean of every training seed, and the spread over seeds, of all that is tuned.

    `shifts` are those of `shifts.measure_shifts` and `judged` is of `judge_items`. Returns `measure` ('shift toward target', 'contrast',
    'shift above <control>', 'aligned by nearer', 'aligned by mode'; shares for the last two), CELL, a column a seed, `mean, sd, seeds`
    (`stats.spread_seeds`), `note` (that there is one seed).
    """
    tuned = shifts[~shifts["stage"].isin(REFERENCE_SHIFTS.values())].assign(value=shifts["shift"])
    target = tuned[tuned["toward"] == "target"]
    parts = [target.assign(measure="shift toward target"), tuned[tuned["toward"] == "contrast"].assign(measure="contrast")]
    pairs = list_pairs(target)
    # Paired by item within a seed; a control of one training stands beside every seed.
    repeated = (
        repeat_runs(target[target["stage"].isin({stage for pair in pairs for stage in pair})], ["model", "stage"])
        if pairs
        else target
    )
    for new, old in pairs:
        both = pair_conditions(
            repeated, ["model", "culture", "language", "persona"], "shift", over="stage", new=new, old=old,
            paired=["question", "seed"], unit="question",
        )  # fmt: skip
        parts.append(both.assign(measure=f"shift above {old.removeprefix('control_')}", stage=new, value=both["difference"]))
    counted = judged[~judged["stage"].isin(UNTESTED)].rename(columns={"adapter": "culture"})
    parts.append(counted.assign(measure="aligned by " + counted["reading"], value=counted["aligned"].astype(float)))
    keys = ["measure", *CELL]
    table = spread_seeds(pd.concat([part[[*keys, "seed", "value"]] for part in parts if len(part)]), keys, "value")
    return table.assign(note=np.where(table["seeds"] == 1, ALONE, ""))
