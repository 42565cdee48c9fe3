"""What the survey's notebooks say, in sentences made from metric records."""

from __future__ import annotations

from itertools import product

import pandas as pd

from align_utils.config.profiles import Config
from align_utils.stats import judge_change
from align_utils.store.page import Sentence, list_records, pick_record
from align_utils.store.tables import write_interval
from align_utils.survey.distances import pick_pair
from align_utils.survey.power import LEAST

# A mean shift within this share of the scale is no change.
SMALL = LEAST["distance"]
# An entropy relative to uniform above this is an answer that is nearly even, whatever is asked.
EVEN = 0.98
MOVED = {
    "up": "came nearer", "down": "went further away", "flat": "stayed in place", "undecided": "may or may not have come nearer",
}  # fmt: skip


def record_answering(cfg: Config, readings: pd.DataFrame) -> list[dict]:
    """Records `option_mass`, `refusal_mass` and `answer_entropy` of `describe_readouts`, of the label's reading."""
    named = readings[readings["readout"] == "label"].rename(columns={"adapter": "culture"})
    measures = {
        "option_mass": ("option mass", "probability"),
        "refusal_mass": ("refusal mass", "probability"),
        "answer_entropy": ("entropy", "share"),
    }
    return [
        record for metric, (column, unit) in measures.items()
        for record in list_records(named.rename(columns={column: "value"}), metric, unit=unit, method="label")
    ]  # fmt: skip


def state_answering(records: list[dict], cfg: Config) -> Sentence:
    """Whether the models name an option at all, before and after tuning, and whether their answers are nearly even."""
    own = [record for record in records if record["persona"] == "none"]
    mass, even = (_pick(own, metric) for metric in ("option_mass", "answer_entropy"))
    text = (
        f"Before tuning the model names an option with a probability of {_span(mass, tuned=False)}, after tuning of {_span(mass, tuned=True)}. "
        f"Its answers are {'nearly even' if min(record['value'] for record in even) > EVEN else 'not all even'}: their entropy is "
        f"{_span(even)} of the largest there can be."
    )
    return Sentence("answering", text, mass + even)


def state_order(records: list[dict], cfg: Config) -> Sentence:
    """How much the order of the options decides, before and after tuning, from `order_bias` records."""
    own = _pick(records, "order_bias")
    text = (
        f"Showing the options in one order instead of averaging over orders changes {_span(own, tuned=False)} of an answer before tuning, and "
        f"{_span(own, tuned=True)} after it."
    )
    return Sentence("order", text, own)


def state_shift(records: list[dict], cfg: Config) -> Sentence:
    """Whether the tuned answers moved toward the culture taught, each culture asked in its own language, and more than toward the others.

    From `shift_toward_target` and `shift_contrast` records: flatter answers come nearer to every country, which is no move toward one.
    """
    parts, used = [], []
    asked = {record["stage"] for record in _pick(records, "shift_toward_target")}
    stage = next((stage for stage in ("ppo", "sft") if stage in asked), None)
    for (name, culture), model in product(cfg.cultures.items(), cfg.models):
        own = {"culture": name, "language": culture.language, "persona": "none", "stage": stage, "model": model}
        shift, contrast = (pick_record(records, metric, **own) for metric in ("shift_toward_target", "shift_contrast"))
        if shift is None:
            continue
        used.append(shift)
        moved = judge_change(shift["value"], shift["low"], shift["high"], margin=SMALL)
        told = f"seen from {cfg.call(model, name)}, they {MOVED[moved]} ({write_interval(shift, '+.3f')} of the scale)"
        if moved == "up" and contrast is not None:
            used.append(contrast)
            more = "and nearer" if contrast["low"] > 0 else "but no nearer"
            told += f", {more} than to the other country ({write_interval(contrast, '+.3f')})"
        parts.append(told)
    if not parts:
        return Sentence("shift", "No adapter was asked in its own culture's language, so that no shift is measured.", [])
    return Sentence("shift", f"The answers {cfg.names[stage]}, asked in the culture's language: {'; '.join(parts)}.", used)


def state_verdict(records: list[dict], cfg: Config) -> Sentence:
    """Whether tuning moved the answers and whether one could have seen it, for the last stage of every culture in its own language.

    From `shift_verdict_distance`, `shift_verdict_slope` (the verdict is their method) and `smallest_visible_distance` records.
    """
    told: dict[tuple[str, str], list[str]] = {}
    used, visible = [], []
    for (name, culture), model in product(cfg.cultures.items(), cfg.models):
        own = {"culture": name, "language": culture.language, "persona": "none", "model": model, "stage": "ppo"}
        found = [
            pick_record(records, metric, **own)
            for metric in ("shift_verdict_distance", "shift_verdict_slope", "smallest_visible_distance")
        ]
        if None not in found:
            place = cfg.call(model, name)
            told.setdefault((found[0]["method"], found[1]["method"]), []).append(place)
            visible.append(f"{found[2]['value']:.3f} ({place})")
            used += found
    if not told:
        return Sentence("verdict", "No adapter was asked in its own culture's language, so that there is no verdict.", [])
    parts = [
        f"{distance} ({' and '.join(places)})" if distance == slope
        else f"the two measures disagree ({' and '.join(places)}): by distance {distance}; by slope {slope}"
        for (distance, slope), places in told.items()
    ]  # fmt: skip
    scale = f"The smallest shift that so many questions could show is {' and '.join(visible)} of the scale."
    return Sentence("verdict", f"Whether PPO moved the survey's answers: {'; '.join(parts)}. {scale}", used)


def state_counts(records: list[dict], cfg: Config) -> Sentence:
    """On how many high-tension items the answers are on China's side, before and after, from `aligned_with_china` records."""
    pair = pick_pair(cfg)
    language = cfg.cultures[pair[1]].language if pair else None
    found = [
        pick_record(records, "aligned_with_china", stage=stage, language=language, persona="none", culture=culture, model=model)
        for model in cfg.models for stage, culture in (("zero_shot", "none"), ("ppo", pair[1] if pair else None))
    ]  # fmt: skip
    found = [record for record in found if record]
    if len(found) < 2:
        return Sentence("counts", "This run does not compare China with another country, so that nothing is counted.", [])
    before, after = found[:2]
    counts = [f"{record['value'] * record['n']:.3g}" for record in (before, after)]
    even = pick_record(records, "aligned_with_china", stage="uniform")
    chance = f" Even answers would be on {even['value'] * even['n']:.3g}." if even else ""
    text = (
        f"Of the {after['n']:.0f} questions on which the countries differ most, the answers are nearer to China on {counts[0]} before tuning and on "
        f"{counts[1]} after PPO (share {write_interval(after)}).{chance} The paper counts 13 of 50 before and 25 after, for another model."
    )
    return Sentence("counts", text, [before, after, *([even] if even else [])])


def _pick(records: list[dict], metric: str) -> list[dict]:
    return [record for record in records if record["metric"] == metric]


def _span(records: list[dict], *, tuned: bool | None = None) -> str:
    """The smallest and the largest value of all records, of the untuned model's or of the adapters'."""
    values = [record["value"] for record in records if tuned is None or (record["culture"] != "none") == tuned]
    low, high = (f"{value:.2f}" for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"
