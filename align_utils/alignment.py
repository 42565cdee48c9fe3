"""Conditions of notebook 04: every stage, people and the baselines scored and compared over the same cues."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from align_utils import agreement, lexical, norms, stats
from align_utils.artifacts import list_records
from align_utils.config import Config
from align_utils.matching import MATCHINGS

KEYS = ["model", "culture", "reading", "stage", "k"]
# The K of the headline figures.
RATED = 5


def score_conditions(
    cfg: Config, lists: pd.DataFrame, stage: dict[str, dict], families: dict, *, matching: str | None = None
) -> pd.DataFrame:
    """Precision of every stage and of the two baselines on the test cues.

    Parameters
    ----------
    lists : DataFrame
        From `associations.load_associations`.
    stage, families : dict
        From `pairs.load_stage` and `pairs.map_families`.
    matching : {'exact', 'lemma'}, optional
        Default: the profile's `lexical.matching`.

    Returns
    -------
    DataFrame
        `model, culture, stage, seed, cue, reading, k, precision, family, reverse` (a human top-5 pair stands reversed in training).
    """
    settings, parts = cfg.profile.lexical, []
    for culture, data in stage.items():
        frame, cues, language = data["norms"], data["cues"], cfg.language_of(culture)
        most = max(settings.ks)
        baselines = {
            "frequency": lexical.list_frequency_baseline(frame, cues["train"], cues["test"], k=most),
            "chance": lexical.list_chance_baseline(frame, cues["test"], k=most),
        }
        extra = [
            part.assign(stage=name, model=model, seed=cfg.profile.seed)
            for name, part in baselines.items()
            for model in cfg.models
        ]
        mine = lists.loc[lists["culture"] == culture, ["model", "stage", "seed", "cue", "responses"]]
        conditions = _repeat_runs(pd.concat([mine, *extra]))
        scored = lexical.score_lists(
            conditions, frame, language, ks=settings.ks, min_count=settings.min_count, matching=matching or settings.matching
        )
        reverse = lexical.find_reverse_pairs(frame, cues["test"], cues["train"], language, k=RATED)
        parts.append(scored.assign(culture=culture, reverse=scored["cue"].isin(reverse)))
    scored = pd.concat(parts, ignore_index=True)
    scored["family"] = [families[key] for key in zip(scored["culture"], scored["cue"], strict=True)]
    return scored


def score_agreement(cfg: Config, lists: pd.DataFrame, stage: dict[str, dict], families: dict) -> pd.DataFrame:
    """Measures beyond Precision@5 (`agreement.MEASURES`) of every stage, means over the test cues with intervals over families.

    Returns
    -------
    DataFrame
        `model, culture, measure, stage, value, low, high, n`; n counts the cues for which the measure is defined.
    """
    parts = []
    for culture, data in stage.items():
        mine = lists.loc[lists["culture"] == culture, ["model", "stage", "cue", "responses"]]
        scored = agreement.score_agreement(mine, data["norms"], cfg.language_of(culture), k=RATED)
        parts.append(scored.assign(culture=culture, family=[families[culture, cue] for cue in scored["cue"]]))
    by = ["model", "culture", "measure", "stage"]
    return stats.summarise(pd.concat(parts).sort_values(by[:3], kind="stable"), by, "value", unit="family", **cfg.bootstrap)


def compare_matchings(cfg: Config, lists: pd.DataFrame, stage: dict[str, dict], families: dict) -> pd.DataFrame:
    """Mean P@5 of every condition, exact and by lemma, with the paired difference and its interval over families.

    Returns
    -------
    DataFrame
        `model, culture, reading, stage, exact, lemma, difference, low, high, n`.
    """
    by = ["model", "culture", "reading", "stage"]
    scored = pd.concat([
        score_conditions(cfg, lists, stage, families, matching=name).query("k == @RATED").assign(matching=name)
        for name in MATCHINGS
    ]).sort_values(by[:3], kind="stable")  # fmt: skip
    gaps = stats.compare(
        scored, by, "precision", over="matching", pairs=[("lemma", "exact")], key="cue", unit="family", **cfg.bootstrap
    )
    means = scored.groupby([*by, "matching"], sort=False)["precision"].mean().unstack().reset_index()
    table = means.merge(gaps.rename(columns={"value": "difference"}), on=by, sort=False)
    return table[[*by, *MATCHINGS, "difference", "low", "high", "n"]]


def summarise_precision(cfg: Config, scored: pd.DataFrame) -> pd.DataFrame:
    """Mean precision with intervals, over all test cues and over those without a reversed training pair (`subset`)."""
    parts = [
        stats.summarise(part, KEYS, "precision", unit="family", run="seed", **cfg.bootstrap).assign(subset=subset)
        for subset, part in (("all", scored), ("no_reverse", scored[~scored["reverse"]]))
    ]
    return pd.concat(parts, ignore_index=True)


def summarise_ceiling(cfg: Config, stage: dict[str, dict], families: dict) -> pd.DataFrame:
    """Human split-half ceiling on the test cues that have participants' trials; no rows where a culture has none."""
    settings, parts = cfg.profile.lexical, []
    for culture, data in stage.items():
        trials = norms.load_norms(cfg, culture)["trials"]
        if trials is None:
            continue
        ceiling = lexical.estimate_ceiling(
            trials, data["cues"]["test"], cfg.language_of(culture), ks=settings.ks, splits=settings.ceiling_splits,
            seed=cfg.profile.seed,
        )  # fmt: skip
        ceiling["family"] = [families[culture, cue] for cue in ceiling["cue"]]
        parts += [ceiling.assign(culture=culture, stage="human", model=model) for model in cfg.models]
    empty = pd.DataFrame(columns=[*KEYS, "value", "low", "high", "n", "subset"])
    if not parts:
        return empty
    return stats.summarise(pd.concat(parts), KEYS, "precision", unit="family", **cfg.bootstrap).assign(subset="all")


def compare_stages(cfg: Config, scored: pd.DataFrame, pairs: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """Paired differences in P@5 between stages, per reading and subset: intervals and sign-flip p over families.

    `p_holm` is adjusted over the cultures and comparisons of one model, reading and subset.
    """
    five = scored[scored["k"] == 5]
    parts = []
    for subset, part in (("all", five), ("no_reverse", five[~five["reverse"]])):
        table = stats.compare(
            part,
            ["model", "culture", "reading"],
            "precision",
            over="stage",
            pairs=pairs,
            key="cue",
            unit="family",
            run="seed",
            **cfg.bootstrap,
        )
        table["p_holm"] = table.groupby(["model", "reading"])["p"].transform(lambda p: stats.adjust_holm(p))
        parts.append(table.assign(subset=subset))
    return pd.concat(parts, ignore_index=True)


def list_metrics(cfg: Config, at_5: pd.DataFrame, differences: pd.DataFrame, beyond: pd.DataFrame) -> list[dict]:
    """Metric records of notebook 04 but for the ratings: precision and ceiling at 5, paired differences, agreement."""
    language = {name: culture.language for name, culture in cfg.cultures.items()}
    records = []
    for reading in lexical.READINGS:
        part = at_5[at_5["reading"] == reading]
        tagged = part.assign(language=part["culture"].map(language))
        stages, people = tagged[tagged["stage"] != "human"], tagged[tagged["stage"] == "human"]
        records += list_records(stages, f"precision_at_5_{reading}", unit="share")
        records += list_records(people, "human_ceiling_at_5", unit="share", method=reading)
        gaps = differences[differences["reading"] == reading].rename(columns={"comparison": "method"})
        gaps = gaps.assign(language=gaps["culture"].map(language))
        records += list_records(gaps, f"precision_at_5_{reading}_difference", unit="share")
    for measure, part in beyond.groupby("measure", sort=False):
        records += list_records(part.assign(language=part["culture"].map(language)), f"{measure}_at_{RATED}", unit="share")
    return records


def _repeat_runs(lists: pd.DataFrame) -> pd.DataFrame:
    """Lists that no training run changes stand beside every run's, so that every difference is within a run."""
    runs = lists["seed"].unique()
    if len(runs) == 1:
        return lists
    fixed = lists.groupby(["model", "stage"])["seed"].transform("nunique") == 1
    return pd.concat([lists[~fixed], *(lists[fixed].assign(seed=run) for run in runs)], ignore_index=True)
