"""How far the answers moved toward a country, item by item, beside the controls; and the smallest move that could be seen."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import pandera.pandas as pa

from align_utils.config.profiles import Config
from align_utils.config.settings import Culture
from align_utils.config.stages import FOREIGN, POSITIVE, TARGETS, find_state
from align_utils.stats import add_holm, compare, count_flips, find_smallest, permute_signs, repeat_runs, summarise
from align_utils.survey.distances import REFERENCE_MODEL

CELL = ["model", "culture", "stage", "language", "persona"]
SHIFT_KEYS = [*CELL, "toward"]
TOWARD = ("target", "other", "contrast")
# One row a tuned model (or reference) and question, `culture` that of the norms; of shares of the scale, positive toward the country.
SHIFTS = pa.DataFrameSchema({
    **{name: pa.Column(str) for name in (*CELL, "question", "topic")}, "toward": pa.Column(str, pa.Check.isin(TOWARD)),
    "seed": pa.Column(int), "shift": pa.Column(float, pa.Check.in_range(-2 - 1e-9, 2 + 1e-9)),
})  # fmt: skip
# References as if they were tuned models: how far is the way from the untuned model's answers to theirs?
REFERENCE_SHIFTS = {"human": "other_country", "human_half": "human_half", "uniform": "uniform"}
# Holm's family is all that is tested of one model and one direction.
FAMILY = ["model", "toward"]


def measure_shifts(cfg: Config, distances: pd.DataFrame, items: pd.DataFrame) -> pd.DataFrame:
    """shift = d(untuned, country) - d(tuned, country) per item (Wasserstein); positive is toward the country.

    `distances` are DISTANCES of models and references, `items` have `question, topic`. Returns SHIFTS. `toward` is 'target' for the country
    of the culture, 'other' for the mean of the others, and 'contrast' for target minus other on the same item, which takes out what moves
    the answers toward every country alike; cultures of one country have the first alone.

    Flatter answers are that only as far as the countries lie equally far from even answers: `uniform` shows how far they do
    not. Among the stages stand the positive controls, the foreign control (the other language's SFT adapter, seen from here),
    and what the shift would be if the model answered evenly (`uniform`), as the other country does (`other_country`) or as half
    of the target's own people do (`human_half`, held against the other half; exact answers would lie about twice as near).
    """
    asked, aim = ["model", "language", "persona"], ["question", "to"]
    country = {name: culture.survey_country for name, culture in cfg.cultures.items()}
    references, models = (distances[(distances["model"] == REFERENCE_MODEL) == wanted] for wanted in (True, False))
    base = models.loc[models["adapter"] == "none", [*asked, *aim, "wasserstein"]]
    tuned = models[models["adapter"] != "none"].rename(columns={"adapter": "culture"})
    tuned = tuned.merge(base, on=[*asked, *aim], suffixes=("", "_base"))
    rows = references.drop(columns=asked).merge(pd.DataFrame({"culture": tuned["culture"].unique()}), how="cross")
    # Half of a country stands beside its other half alone; a whole country is a reference for other countries' cultures.
    own, abroad = rows["adapter"] == rows["culture"], rows["adapter"].map(country) != rows["culture"].map(country)
    rows = rows[(rows["stage"] == "uniform") | (rows["stage"] == "human_half") & own | (rows["stage"] == "human") & abroad]
    rows = rows.assign(stage=rows["stage"].map(REFERENCE_SHIFTS)).merge(base, on=aim, suffixes=("", "_base"))
    both = pd.concat([add_foreign(cfg, tuned), rows], ignore_index=True)
    is_target = both["to"] == both["culture"]
    both = both.assign(shift=both["wasserstein_base"] - both["wasserstein"], toward=np.where(is_target, "target", "other"))
    both = both[is_target | (both["to"].map(country) != both["culture"].map(country))]
    # One row an item: of several other countries the mean.
    means = both.groupby([*CELL, "question", "seed", "toward"], sort=False)["shift"].mean()
    wide = means.unstack("toward").reindex(columns=["target", "other"])
    contrast = (wide["target"] - wide["other"]).rename("shift").dropna().reset_index().assign(toward="contrast")
    return SHIFTS.validate(pd.concat([means.reset_index(), contrast], ignore_index=True).merge(items[["question", "topic"]]))


def add_foreign(cfg: Config, tuned: pd.DataFrame) -> pd.DataFrame:
    """Rows of adapters (`culture, stage`), and below them the other language's SFT adapter as every culture's foreign control.

    It costs nothing, as it was asked as its own culture's; a run of one language has none.
    """
    parts = [tuned]
    several = len({culture.language for culture in cfg.cultures.values()}) > 1
    for culture in cfg.cultures if several else []:
        other, stage = find_state(cfg, culture, FOREIGN)
        parts.append(tuned[(tuned["stage"] == stage) & (tuned["culture"] == other)].assign(culture=culture, stage=FOREIGN))
    return pd.concat(parts, ignore_index=True)


def summarise_shifts(shifts: pd.DataFrame, **bootstrap) -> pd.DataFrame:
    """Mean shift of every stage, with intervals over items (and seeds, where several), p of random signs, and Holm.

    `shifts` are those of `measure_shifts`; `bootstrap` is `cfg.bootstrap`. Returns SHIFT_KEYS, `value, low, high, n`, `smallest` (mean
    shift that so many items of this spread show, `find_smallest`), `p, p_holm`, in the order of TOWARD; references and positive controls
    are not tested. p is of so many resamples that it can be small enough for its family
    (`stats.count_flips`).
    """
    table = summarise(shifts, SHIFT_KEYS, "shift", unit="question", run="seed", **bootstrap)
    means = shifts[~shifts["stage"].isin([*REFERENCE_SHIFTS.values(), *POSITIVE])]
    means = means.groupby([*SHIFT_KEYS, "question"], sort=False)["shift"].mean().reset_index()
    flips = count_flips(bootstrap["resamples"], means[SHIFT_KEYS].drop_duplicates(), FAMILY)
    signs = {"resamples": flips, "seed": bootstrap["seed"]}
    tests = [
        [*key, find_smallest(part["shift"].std(), len(part)), permute_signs(part["shift"], part["question"], **signs)]
        for key, part in means.groupby(SHIFT_KEYS, sort=False)
    ]
    table = table.merge(pd.DataFrame(tests, columns=[*SHIFT_KEYS, "smallest", "p"]), on=SHIFT_KEYS, how="left")
    table = add_holm(table.astype({"smallest": float, "p": float}), FAMILY)
    return table.sort_values("toward", key=lambda column: column.map(TOWARD.index), kind="stable", ignore_index=True)


def compare_controls(shifts: pd.DataFrame, **bootstrap) -> pd.DataFrame:
    """Shift of the target's adapters minus that of every control there is, paired by item; a control of one seed stands beside every seed.

    Returns `model, culture, language, persona, toward, comparison` ('sft - control_shuffled'), `value, low, high, n, effect, p, p_holm`
    (family as in `summarise_shifts`). Empty where the run has no control.
    """
    by, pairs = ["model", "culture", "language", "persona", "toward"], list_pairs(shifts)
    if not pairs:
        return pd.DataFrame(columns=[*by, "comparison", "value", "low", "high", "n", "effect", "p", "p_holm"])
    both = repeat_runs(shifts[shifts["stage"].isin({stage for pair in pairs for stage in pair})], ["model", "stage"])
    return compare(
        both, by, "shift", over="stage", pairs=pairs, key="question", unit="question", run="seed", family=FAMILY, **bootstrap
    )


def list_pairs(shifts: pd.DataFrame) -> list[tuple[str, str]]:
    """(Stage trained on the culture's own norms, control) of all that there are."""
    stages = list(shifts["stage"].unique())
    controls = [stage for stage in stages if stage.startswith("control_")]
    return [(stage, control) for stage in TARGETS if stage in stages for control in controls]


def summarise_topics(shifts: pd.DataFrame, **bootstrap) -> pd.DataFrame:
    """Mean shift per topic of every stage, control and reference, with intervals; untested, as topics are many and small."""
    return summarise(shifts, [*SHIFT_KEYS, "topic"], "shift", unit="question", run="seed", **bootstrap)


def pick_own(cultures: Mapping[str, Culture], frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of adapters that are asked in the language of their own culture."""
    return frame[frame["culture"].map({name: culture.language for name, culture in cultures.items()}) == frame["language"]]


def list_shift_rows(cfg: Config, overall: pd.DataFrame) -> pd.DataFrame:
    """Rows of `summarise_shifts` for the figure: a panel a culture, asked in its own language; toward it and the others.

    Returns `panel, label, group, value, low, high, n`: first the stages, then the controls, then what the way would be to other people's answers.
    """
    toward = {"target": "toward this country", "other": "toward the other country"}
    part = pick_own(cfg.cultures, overall[overall["toward"].isin(toward)])
    part = part.sort_values("stage", key=lambda stage: stage.isin(REFERENCE_SHIFTS.values()), kind="stable")
    panel = [f"norms: {cfg.label(*cell)}" for cell in zip(part["model"], part["culture"], strict=True)]
    return part.assign(panel=panel, label=part["stage"].map(cfg.names), group=part["toward"].map(toward))


def pick_topics(cfg: Config, topics: pd.DataFrame, *, stage: str) -> pd.DataFrame:
    """Rows of `summarise_topics` toward the target for `plots.plot_intervals`: a panel an adapter, a group a language."""
    part = topics[(topics["stage"] == stage) & (topics["toward"] == "target")]
    panel = [f"norms of {cfg.label(*cell)}" for cell in zip(part["model"], part["culture"], strict=True)]
    return part.assign(panel=panel, label=part["topic"], group="asked in " + part["language"])


def tabulate_items(shifts: pd.DataFrame, items: pd.DataFrame) -> pd.DataFrame:
    """Shift toward the target of every item (mean over seeds), one column an answerer ('cn sft en') or reference, items in order."""
    part = shifts[shifts["toward"] == "target"]
    names = ["culture", "stage", "language", *(["model"] if part["model"].nunique() > 1 else [])]
    part = part.assign(answerer=part[names].agg(" ".join, axis=1))
    wide = part.groupby(["question", "answerer"], sort=False)["shift"].mean().unstack("answerer")
    return items[["question", "topic", "text_en"]].merge(wide.reset_index(), on="question")
