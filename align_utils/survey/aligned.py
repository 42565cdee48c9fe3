"""The items on which two countries differ most: whose answers are nearer, whose modal answer it is, and what counts can say."""

from __future__ import annotations

import numpy as np
import pandas as pd

from align_utils.config.profiles import Config
from align_utils.config.stages import TARGETS
from align_utils.stats import (
    adjust_holm,
    bootstrap_levels,
    count_flips,
    fisher_exact,
    mcnemar_exact,
    permute_signs,
    wilson_interval,
)
from align_utils.store.page import list_records
from align_utils.survey.distances import DISTANCE_MEASURES, YARDSTICKS

# The paper's counts of 50 answers aligned with China: before, after.
PAPER = {"Qwen2.5-7B": (13, 25), "Llama-3.1-8B": (20, 24)}
PAPER_ITEMS = 50
ALIGNED_READINGS = ("nearer", "mode")
# Share of an answer by which the first option must lead to be the modal answer; below lies rounding.
LEAD = 1e-9


def find_modes(answers: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """The modal answer of every item; NaN where two options share the lead (an even answerer has no modal answer).

    Parameters
    ----------
    answers : DataFrame
        `by`, `question, code, share`.

    Returns
    -------
    DataFrame
        `by`, `question`, `mode` (code).
    """
    keys = [*by, "question"]
    ranked = answers.sort_values("share", ascending=False, kind="stable")
    first, second = (ranked.groupby(keys, sort=False).nth(place).set_index(keys) for place in (0, 1))
    clear = first["share"] - second["share"].reindex(first.index) > LEAD
    return first["code"].where(clear).rename("mode").reset_index()


def judge_items(
    distances: pd.DataFrame, answers: pd.DataFrame, human: pd.DataFrame, tension: pd.DataFrame, *, toward: str, away: str
) -> pd.DataFrame:
    """For every chosen item and answerer: is it on the side of `toward`, by two readings?

    Parameters
    ----------
    distances : DataFrame
        Of models and baselines, from `values.measure_distances`.
    answers : DataFrame
        The same answerers' `question, code, share`.
    human, tension : DataFrame
        From `wvs.load_distributions` and `values.rank_tension`.

    Returns
    -------
    DataFrame
        The answerer's columns, `question`, `reading` ('nearer': nearer distribution; 'mode': the same modal answer as `toward`),
        `aligned` (bool; ties count as no), `shared` (bool: both countries have the same modal answer).
    """
    names = [column for column in distances.columns if column not in {"question", "to", *DISTANCE_MEASURES}]
    keys = [*names, "question"]
    chosen = set(tension.loc[tension["chosen"], "question"])
    wide = distances[distances["question"].isin(chosen)].pivot(index=keys, columns="to", values="wasserstein")
    # Only a whole country lacks a distance: that to itself, which is 0.
    wide = wide.fillna(0.0)
    nearer = (wide[toward] < wide[away]).rename("aligned").reset_index().assign(reading="nearer")
    people = find_modes(human, ["culture"]).pivot(index="question", columns="culture", values="mode")
    mode = find_modes(answers[answers["question"].isin(chosen)], names)
    mode["aligned"] = mode["mode"].to_numpy() == people[toward].reindex(mode["question"]).to_numpy()
    both = pd.concat([nearer, mode.drop(columns="mode").assign(reading="mode")], ignore_index=True)
    both = distances[names].drop_duplicates().merge(both, on=names)
    shared = people[toward] == people[away]
    return both.assign(shared=both["question"].map(shared))


def count_aligned(cfg: Config, judged: pd.DataFrame) -> pd.DataFrame:
    """How many of the chosen items each answerer has on the side of `toward`, before and after tuning, by both readings.

    Parameters
    ----------
    judged : DataFrame
        From `judge_items`, several models and baselines together; with `seed` where the tuned answers are of several runs.

    Returns
    -------
    DataFrame
        `label, reading, group, model, culture` (of the norms or people), `stage, language, persona, value, low, high` (share,
        Wilson), `count, n, shared` (items with one modal answer in both countries), `gained, lost` against the untuned model,
        `p` (exact McNemar), `p_holm` (family: the tuned rows of a reading). Baselines and the untuned model are not tested.
        Of an answerer with several seeds the counts are means over seeds, the interval is a bootstrap over items and seeds, and p
        is that of random signs of the items' mean change over seeds (with one seed that is McNemar's test).
    """
    tuned = judged.loc[~judged["stage"].isin({"zero_shot", *YARDSTICKS}), ["model", "adapter", "stage", "language", "persona"]]
    flips, rows = count_flips(cfg.profile.stats.resamples, len(tuned.drop_duplicates())), []
    for (reading, model, language, persona), part in judged.groupby(["reading", "model", "language", "persona"], sort=False):
        base = part[part["stage"] == "zero_shot"].set_index("question")["aligned"]
        for (culture, stage), mine in part.groupby(["adapter", "stage"], sort=False):
            several = "seed" in mine and mine["seed"].nunique() > 1
            before = None if stage in {"zero_shot", *YARDSTICKS} else base
            rows.append({
                "label": name_answerer(model, culture, stage, language, persona), "reading": reading, "group": stage,
                "model": model, "culture": culture, "stage": stage, "language": language, "persona": persona,
                **(_count_runs(cfg, mine, before, flips) if several else _count_run(mine, before)),
            })  # fmt: skip
    table = pd.DataFrame(rows)
    table["p_holm"] = table.groupby("reading", sort=False)["p"].transform(lambda p: adjust_holm(p))
    return table


def _count_run(mine: pd.DataFrame, base: pd.Series | None) -> dict:
    """`value` to `p` of a row of `count_aligned`, of one seed; `base`: was the item aligned before tuning (None: not tested)."""
    aligned = mine.set_index("question")["aligned"]
    low, high = wilson_interval(int(aligned.sum()), len(aligned))
    row = {
        "value": aligned.mean(), "low": low, "high": high, "count": int(aligned.sum()), "n": len(aligned),
        "shared": int(mine["shared"].sum()), "gained": np.nan, "lost": np.nan, "p": np.nan,
    }  # fmt: skip
    if base is not None:
        before = base.loc[aligned.index]
        row["gained"], row["lost"] = int((aligned & ~before).sum()), int((~aligned & before).sum())
        row["p"] = mcnemar_exact(row["gained"], row["lost"])
    return row


def _count_runs(cfg: Config, mine: pd.DataFrame, base: pd.Series, flips: int) -> dict:
    """The same of several seeds, by the functions that give the shifts' intervals and p; only tuned models have several."""
    runs = mine["seed"].nunique()
    value, low, high = bootstrap_levels(mine["aligned"], mine["question"], mine["seed"], **cfg.bootstrap)
    change = mine["aligned"].astype(int) - mine["question"].map(base).astype(int)
    means = change.groupby(mine["question"], sort=False).mean()
    p = permute_signs(means, means.index, resamples=flips, seed=cfg.profile.seed)
    return {
        "value": value, "low": low, "high": high, "count": mine["aligned"].sum() / runs, "n": mine["question"].nunique(),
        "shared": int(mine.drop_duplicates("question")["shared"].sum()), "gained": (change > 0).sum() / runs,
        "lost": (change < 0).sum() / runs, "p": p,
    }  # fmt: skip


def find_chance(counts: pd.DataFrame, human: pd.DataFrame, tension: pd.DataFrame) -> dict[str, float]:
    """The share of the chosen items that knowing nothing gets, by reading.

    Parameters
    ----------
    counts : DataFrame
        From `count_aligned`, with the uniform answerer.
    human, tension : DataFrame
        As for `judge_items`.

    Returns
    -------
    dict
        'nearer': the uniform answerer's share; 'mode': that of a mode drawn by chance, the mean of 1 / k over the items.
    """
    even = counts[(counts["stage"] == "uniform") & (counts["reading"] == "nearer")]
    options = human[human["question"].isin(tension.loc[tension["chosen"], "question"])].groupby("question")["code"].nunique()
    return {"nearer": float(even["value"].iloc[0]), "mode": float((1 / options).mean())}


def name_answerer(model: str, culture: str, stage: str, language: str, persona: str = "none") -> str:
    """An answerer in words: 'cn sft, asked in zh', 'people of cn', 'uniform answers'; the model where it is no baseline."""
    if stage in YARDSTICKS:
        return {"human": f"people, {culture}", "human_half": f"half of the people, {culture}", "uniform": "uniform answers"}[
            stage
        ]
    name = "vanilla" if culture == "none" else f"{culture} {stage}"
    return f"{model} {name}, asked in {language}" + ("" if persona == "none" else f", persona {persona}")


def list_answers(
    averaged: pd.DataFrame, human: pd.DataFrame, items: pd.DataFrame, tension: pd.DataFrame, *,
    culture: str, language: str,
) -> pd.DataFrame:  # fmt: skip
    """Both countries' distributions and the answers of base and tuned model on the chosen items, for `value_plots.plot_items`.

    Parameters
    ----------
    averaged : DataFrame
        Answers of one model and persona, from `answers.average_orders`.
    culture, language : str
        Norms of the tuned answerers, and the language in which all are asked.

    Returns
    -------
    DataFrame
        In the order of tension: `question, text, place` (0 is the first point of the scale), `answerer` (culture or stage), `share, first, last` (labels of
        the ends), `tension`.
    """
    asked = averaged[(averaged["language"] == language) & averaged["stage"].isin(["zero_shot", *TARGETS])]
    asked = asked[asked["adapter"].isin(["none", culture])]
    # Of several seeds the mean answer.
    asked = asked.groupby(["stage", "question", "code"], sort=False)["share"].mean().reset_index()
    rows = []
    for row in tension[tension["chosen"]].itertuples():
        item = items.set_index("question").loc[row.question]
        labels = item["labels_en"]
        parts = {"stage": asked[asked["question"] == row.question], "culture": human[human["question"] == row.question]}
        for column, part in parts.items():
            for name, share in part.groupby(column, sort=False):
                shares = share.set_index("code")["share"].reindex(item["codes"])
                rows += [
                    {
                        "question": row.question, "text": item["text_en"], "place": place, "answerer": name, "share": value,
                        "first": labels[0], "last": labels[-1], "tension": row.tension,
                    }
                    for place, value in enumerate(shares)
                ]  # fmt: skip
    return pd.DataFrame(rows)


def bound_mcnemar(before: int, after: int, n: int) -> tuple[float, float]:
    """Smallest and largest exact McNemar p over all paired tables with these margins.

    Parameters
    ----------
    before, after : int
        Items aligned before and after, of `n` each.

    Examples
    --------
    >>> bound_mcnemar(0, 3, 10)  # nothing could be lost: one table alone
    (0.25, 0.25)
    """
    kept = range(max(0, before + after - n), min(before, after) + 1)
    found = [mcnemar_exact(after - both, before - both) for both in kept]
    return min(found), max(found)


def describe_paper(counts: dict[str, tuple[int, int]] = PAPER, n: int = PAPER_ITEMS) -> pd.DataFrame:
    """The paper's counts with the uncertainty that their margins leave.

    Returns
    -------
    DataFrame
        `model, before, after, n`, Wilson intervals of both shares, `fisher_p` (as if independent), `mcnemar_low, mcnemar_high`
        (exact p over all paired tables with these margins).
    """
    rows = []
    for model, (before, after) in counts.items():
        (low, high), (low_after, high_after) = (wilson_interval(count, n) for count in (before, after))
        smallest, largest = bound_mcnemar(before, after, n)
        rows.append({
            "model": model, "before": before, "after": after, "n": n, "before_low": low, "before_high": high,
            "after_low": low_after, "after_high": high_after, "fisher_p": fisher_exact(before, after, n),
            "mcnemar_low": smallest, "mcnemar_high": largest,
        })  # fmt: skip
    return pd.DataFrame(rows)


def list_aligned_metrics(cfg: Config, counts: pd.DataFrame) -> list[dict]:
    """Metric records of `count_aligned` toward China: `aligned_with_china` (nearer), `..._mode`, and their p after Holm (`method`: the test)."""
    records, method = [], "exact McNemar" if len(cfg.seeds) == 1 else "random signs"
    for reading, part in counts.groupby("reading", sort=False):
        name = "aligned_with_china" + ("" if reading == "nearer" else f"_{reading}")
        records += list_records(part, name, unit="share", subset="high_tension")
        tests = part.drop(columns=["low", "high"]).assign(value=part["p_holm"]).dropna(subset="value")
        records += list_records(tests, f"{name}_p_holm", unit="p", subset="high_tension", method=method)
    return records
