"""Conditions of notebook 04: every stage, people and the baselines scored, rated and compared over the same cues."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from align_utils import agreement, equivalence, lexical, norms, ratings, stats
from align_utils.artifacts import list_records
from align_utils.config import Config
from align_utils.matching import MATCHINGS

KEYS = ["model", "culture", "reading", "stage", "k"]
# A model's list counts with so many responses in the ratings; people with all of theirs, weighted by strength.
RATED = 5


def score_conditions(
    cfg: Config, lists: pd.DataFrame, stage: dict[str, dict], families: dict, *, matching: str | None = None
) -> pd.DataFrame:
    """Precision of every stage and of the two baselines on the test cues.

    Parameters
    ----------
    lists : DataFrame
        From `generation.load_associations`.
    stage, families : dict
        From `pairs.load_stage` and `pairs.map_families`.
    matching : {'exact', 'lemma'}, optional
        Default: the profile's `lexical.matching`.

    Returns
    -------
    DataFrame
        `model, culture, stage, cue, reading, k, precision, family, reverse` (a human top-5 pair stands reversed in training).
    """
    settings, parts = cfg.profile.lexical, []
    for culture, data in stage.items():
        frame, cues, language = data["norms"], data["cues"], cfg.language_of(culture)
        most = max(settings.ks)
        baselines = {
            "frequency": lexical.list_frequency_baseline(frame, cues["train"], cues["test"], k=most),
            "chance": lexical.list_chance_baseline(frame, cues["test"], k=most),
        }
        extra = [part.assign(stage=name, model=model) for name, part in baselines.items() for model in cfg.models]
        conditions = pd.concat([lists.loc[lists["culture"] == culture, ["model", "stage", "cue", "responses"]], *extra])
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
    """Mean P@5 of every condition under each matching of `matching.MATCHINGS`, with intervals over families.

    Returns
    -------
    DataFrame
        `model, culture, reading, stage, matching, value, low, high, n`.
    """
    by = ["model", "culture", "reading", "stage", "matching"]
    parts = [
        score_conditions(cfg, lists, stage, families, matching=name).query("k == @RATED").assign(matching=name)
        for name in MATCHINGS
    ]
    scored = pd.concat(parts).sort_values(by[:3], kind="stable")
    return stats.summarise(scored, by, "precision", unit="family", **cfg.bootstrap)


def summarise_precision(cfg: Config, scored: pd.DataFrame) -> pd.DataFrame:
    """Mean precision with intervals, over all test cues and over those without a reversed training pair (`subset`)."""
    parts = [
        stats.summarise(part, KEYS, "precision", unit="family", **cfg.bootstrap).assign(subset=subset)
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
            **cfg.bootstrap,
        )
        table["p_holm"] = table.groupby(["model", "reading"])["p"].transform(lambda p: stats.adjust_holm(p))
        parts.append(table.assign(subset=subset))
    return pd.concat(parts, ignore_index=True)


def rate_conditions(cfg: Config, lists: pd.DataFrame, stage: dict[str, dict]) -> tuple[pd.DataFrame, list, dict]:
    """Ratings of the responses of people and of every stage, over the same test cues.

    Returns
    -------
    (DataFrame, list of Path, dict)
        `model, culture, label, stage, cue, rating, value, coverage`; the rating files; what was not measured, per language.
    """
    parts, paths, absent = [], [], {}
    wanted = list(dict.fromkeys(name for language in cfg.languages.values() for name in language.ratings))
    for culture, data in stage.items():
        language = cfg.language_of(culture)
        found, files, missing = ratings.load_ratings(cfg, language)
        # A rating without a file keeps its rows, empty: what was not measured is shown as such.
        found = {name: found.get(name, pd.Series(dtype=float)) for name in wanted}
        paths, absent = [*paths, *files], absent | ({language.name: missing} if missing else {})
        human = _list_people(data["norms"], data["cues"]["test"])
        for model in cfg.models:
            mine = lists[(lists["culture"] == culture) & (lists["model"] == model)]
            conditions = {"human": human, **dict(tuple(mine.groupby("stage", sort=False)))}
            for name, part in conditions.items():
                short = part if name == "human" else part.assign(responses=part["responses"].map(lambda words: words[:RATED]))
                rated = lexical.rate_responses(short, found, language)
                parts.append(rated.assign(model=model, culture=culture, label=cfg.label(model, culture), stage=name))
    rated = pd.concat(parts, ignore_index=True)
    # The same cues for people and every stage that has rated responses at all (zero-shot aside, whose lists are often none):
    # a cue to which one of them has no rated response counts for none of them.
    group = ["model", "culture", "rating"]
    held = rated[(rated["stage"] != "zero_shot") & rated["value"].notna()]
    stages = held.groupby(group)["stage"].nunique()
    shared = held.groupby([*group, "cue"])["stage"].nunique()
    kept = {key for key, count in shared.items() if count == stages[key[:3]]}
    same = [key in kept for key in zip(*(rated[column] for column in [*group, "cue"]), strict=True)]
    rated["value"] = rated["value"].where(same)
    rated["rating"] = pd.Categorical(rated["rating"], wanted)
    return rated.sort_values("rating", kind="stable", ignore_index=True).astype({"rating": str}), sorted(set(paths)), absent


def summarise_ratings(cfg: Config, rated: pd.DataFrame, families: dict) -> pd.DataFrame:
    """Mean and median over cues of each rating, with intervals over families, n and mean coverage."""
    rated = rated.assign(family=[families[key] for key in zip(rated["culture"], rated["cue"], strict=True)])
    by = ["model", "culture", "rating", "stage"]
    coverage = rated.groupby(by)["coverage"].mean().reset_index()
    parts = [
        stats.summarise(rated, by, "value", unit="family", statistic=function, **cfg.bootstrap).assign(statistic=name)
        for name, function in (("mean", np.mean), ("median", np.median))
    ]
    return pd.concat(parts).merge(coverage).sort_values([*by[:3], "statistic"], kind="stable", ignore_index=True)


def compare_ratings(cfg: Config, rated: pd.DataFrame, families: dict, pairs: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """Paired differences in mean rating between stages (or a stage and people), with intervals over families."""
    rated = rated.assign(family=[families[key] for key in zip(rated["culture"], rated["cue"], strict=True)])
    return stats.compare(
        rated, ["model", "culture", "rating"], "value", over="stage", pairs=pairs, key="cue", unit="family", **cfg.bootstrap
    )


def judge_human_level(cfg: Config, rated: pd.DataFrame, stage: dict[str, dict], families: dict) -> pd.DataFrame:
    """Equivalence of every stage's mean ratings with people's; the margin is how far halves of the people differ from each other.

    Returns
    -------
    DataFrame
        `model, culture, rating, stage, value` (mean paired difference from people), `low, high` (90 %), `n, margin, p`
        (`equivalence.show_equivalence`). No margin, so no p, where a culture has no participants' trials.
    """
    rows = []
    for culture, data in stage.items():
        language, trials = cfg.language_of(culture), norms.load_norms(cfg, culture)["trials"]
        scales, _, _ = ratings.load_ratings(cfg, language)
        mine = rated[(rated["culture"] == culture) & rated["value"].notna()]
        for rating, part in mine.groupby("rating", sort=False):
            margin = float("nan")
            if trials is not None:
                halves = equivalence.halve_ratings(
                    trials, data["cues"]["test"], scales[rating], language, splits=cfg.profile.lexical.ceiling_splits,
                    seed=cfg.profile.seed,
                )  # fmt: skip
                margin = equivalence.find_margin(halves)
            for model, given in part.groupby("model", sort=False):
                wide = given.pivot(index="cue", columns="stage", values="value")
                for name in given["stage"].unique():
                    if name == "human":
                        continue
                    gaps = (wide[name] - wide["human"]).dropna()
                    shown = equivalence.show_equivalence(gaps, [families[culture, cue] for cue in gaps.index], margin)
                    rows.append({"model": model, "culture": culture, "rating": rating, "stage": name, **shown})
    columns = ["model", "culture", "rating", "stage", "value", "low", "high", "n", "margin", "p"]
    return pd.DataFrame(rows, columns=columns)


def list_metrics(
    cfg: Config,
    at_5: pd.DataFrame,
    differences: pd.DataFrame,
    means: pd.DataFrame,
    rating_gaps: pd.DataFrame,
    beyond: pd.DataFrame,
) -> list[dict]:
    """Metric records of notebook 04: precision and ceiling at 5, paired differences, agreement, ratings and their differences."""
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
    for name, statistic in (("concreteness", "median"), ("valence", "mean"), ("arousal", "mean")):
        part = means[(means["rating"] == name) & (means["statistic"] == statistic)]
        records += list_records(part.assign(language=part["culture"].map(language)), f"{name}_{statistic}", unit="scale points")
    for name, part in rating_gaps.rename(columns={"comparison": "method"}).groupby("rating"):
        records += list_records(part, f"{name}_difference", unit="scale points")
    return records


def _list_people(frame: pd.DataFrame, cues: Sequence[str]) -> pd.DataFrame:
    part = frame[frame["cue"].isin(set(cues))]
    return part.groupby("cue").agg(responses=("response", list), weights=("strength", list)).reset_index()
