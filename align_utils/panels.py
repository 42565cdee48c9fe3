"""Simulated participants of notebook 04: which cues they are asked, and their answers beside people's at equal numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from align_utils import norms, populations, stats
from align_utils.artifacts import list_records
from align_utils.config import Config

KEYS = ["model", "culture", "measure", "stage"]
UNITS = {"entropy": "bits", "entropy_gap": "bits", "distinct": "responses", "distinct_gap": "responses"}
# Fewer people than this cannot be halved into two panels.
FEWEST = 4


def load_people(cfg: Config, stage: dict[str, dict]) -> dict[str, dict]:
    """What simulated participants are compared with, and the test cues they are asked.

    People are the participants' trials where a culture has them: published strength lists may be cut short, and a cut list would
    make people look less varied than they are. Of the test cues with at least four trials `participants.cues` are drawn by the
    seed, so that a larger number keeps the earlier ones. A culture without trials falls back on its strengths and has no human
    panel.

    Returns
    -------
    dict
        Culture to `trials` (frame of the cues asked, or None), `strengths` (`cue, response, count, n, strength, rank`), `cues`.
    """
    settings, people = cfg.profile.participants, {}
    for culture, data in stage.items():
        trials, known = norms.load_norms(cfg, culture)["trials"], data["cues"]["test"]
        if trials is not None:
            given = trials[(trials[["R1", "R2", "R3"]] != "").any(axis=1)]
            sizes = given.groupby("cue").size()
            known = [cue for cue in known if sizes.get(cue, 0) >= FEWEST]
        order = np.random.default_rng(cfg.profile.seed).permutation(len(known))[: settings.cues]
        cues = [known[i] for i in order]
        if trials is None:
            people[culture] = {"trials": None, "strengths": data["norms"], "cues": cues}
        else:
            part = given[given["cue"].isin(set(cues))]
            strengths = norms.build_strengths(part, cfg.language_of(culture), "R123")
            people[culture] = {"trials": part, "strengths": strengths, "cues": cues}
    return people


def score_panels(
    cfg: Config, answers: pd.DataFrame, stage: dict[str, dict], people: dict[str, dict], families: dict
) -> pd.DataFrame:
    """Every measure for every stage's participants, for panels of people and for the frequency baseline, all of equal size.

    Parameters
    ----------
    answers : DataFrame
        From `participants.load_participants`.
    stage, people, families
        From `pairs.load_stage`, `load_people` and `pairs.map_families`.

    Returns
    -------
    DataFrame
        `model, culture, stage, cue, measure, value, family`; stages `human` and `frequency` beside the model's.
    """
    settings, lexical, seed = cfg.profile.participants, cfg.profile.lexical, cfg.profile.seed
    columns = ["model", "culture", "stage", "cue", "measure", "value", "family"]
    if not settings.n:
        return pd.DataFrame(columns=columns)
    parts = []
    for culture, group in people.items():
        language, cues, theirs = cfg.language_of(culture), group["cues"], group["strengths"]
        mine = answers[answers["culture"] == culture]
        conditions = dict(tuple(mine.groupby(["model", "stage"], sort=False)))
        common = populations.draw_frequency(
            stage[culture]["norms"], stage[culture]["cues"]["train"], cues, size=settings.n, words=settings.words, seed=seed
        )
        conditions |= {(model, "frequency"): common for model in cfg.models}
        tables = {
            key: populations.compare_populations(
                norms.build_strengths(trials, language, "R123"), theirs, cues, language, min_count=lexical.min_count
            )
            for key, trials in conditions.items()
        }
        if group["trials"] is not None:
            human = populations.compare_panels(
                group["trials"], cues, language, size=settings.n, splits=lexical.ceiling_splits, min_count=lexical.min_count,
                seed=seed,
            )  # fmt: skip
            tables |= {(model, "human"): human for model in cfg.models}
        parts += [table.assign(model=model, stage=name, culture=culture) for (model, name), table in tables.items()]
    scored = pd.concat(parts, ignore_index=True)
    scored["family"] = [families[key] for key in zip(scored["culture"], scored["cue"], strict=True)]
    return scored[columns]


def summarise_panels(cfg: Config, scored: pd.DataFrame) -> pd.DataFrame:
    """Means over cues with intervals over families: `model, culture, measure, stage, value, low, high, n`."""
    return stats.summarise(scored, KEYS, "value", unit="family", **cfg.bootstrap)


def contrast_panels(cfg: Config, scored: pd.DataFrame, pairs: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """Paired differences of every measure between stages; `p_holm` is adjusted over cultures and comparisons of one measure."""
    by = ["model", "culture", "measure"]
    table = stats.compare(scored, by, "value", over="stage", pairs=pairs, key="cue", unit="family", **cfg.bootstrap)
    table["p_holm"] = table.groupby(["model", "measure"])["p"].transform(lambda p: stats.adjust_holm(p))
    return table


def list_metrics(cfg: Config, summary: pd.DataFrame, contrasts: pd.DataFrame) -> list[dict]:
    """Metric records of the simulated participants: `participants_<measure>` and its differences (`method`: the comparison)."""
    language = {name: culture.language for name, culture in cfg.cultures.items()}
    records = []
    for table, suffix in ((summary, ""), (contrasts.rename(columns={"comparison": "method"}), "_difference")):
        for measure, part in table.groupby("measure", sort=False):
            tagged = part.assign(language=part["culture"].map(language), decoding="sampled")
            records += list_records(tagged, f"participants_{measure}{suffix}", unit=UNITS.get(measure, "share"))
    return records
