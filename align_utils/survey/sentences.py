"""What the survey's notebooks say, in sentences made from metric records."""

from __future__ import annotations

from itertools import product

import pandas as pd

from align_utils.config.profiles import Config
from align_utils.config.stages import FOREIGN, PERSONA, SURVEY_TAUGHT
from align_utils.stats import judge_change
from align_utils.store.page import Sentence, list_records, pick_record
from align_utils.store.tables import write_interval
from align_utils.survey.answers import name_reading
from align_utils.survey.distances import pick_pair
from align_utils.survey.verdicts import AWAY, BEYOND, BLIND, LEAST, UNCONTROLLED, UNMOVED

# A mean shift within this share of the scale is no change.
SMALL = LEAST["distance"]
MOVED = {
    "up": "came nearer", "down": "went further away", "flat": f"stayed within {SMALL} of the scale", "undecided": "may or may not have come nearer",
}  # fmt: skip


# A move beside that toward the other country.
BESIDE = {
    "up": {"more": "and more so than to", "less": "but less so than to", "alike": "but no more so than to"},
    "down": {"more": "but less so than from", "less": "and even more so than from", "alike": "and no more so than from"},
}  # fmt: skip
# The verdicts within a sentence.
VERDICTS = {
    BEYOND: "yes, beyond the controls", UNMOVED: "no, though a positive control moved them", AWAY: "no: they moved away",
    BLIND: "we cannot tell, as no positive control clearly moved them toward that country alone",
    UNCONTROLLED: "we cannot tell without a control",
}  # fmt: skip


def state_reading(records: list[dict], cfg: Config) -> Sentence:
    """By which reading the answers count in each language, and what it has in common with people, from `reading_agreement` and `reading_chosen` records."""
    parts, used = [], []
    for record in _pick(records, "reading_chosen"):
        where = {key: record[key] for key in ("model", "language")}
        best, label = (pick_record(records, "reading_agreement", method=name, **where) for name in (record["method"], "label"))
        used += [best] if label is best else [best, label]
        model = "" if len(cfg.models) == 1 else f" with {record['model']}"
        told = f"in {cfg.names[record['language']]}{model} {name_reading(record['method'])} (correlation {write_interval(best, '+.2f')}"
        told += "" if label is best else f"; {name_reading('label')} {write_interval(label, '+.2f')}"
        parts.append(told + ("" if best["low"] > 0 else "; not above 0") + ")")
    return Sentence(
        "reading",
        f"Answers count by the reading that shares most with people of all countries: {', and '.join(parts)}. The best of several "
        "looks better than it is, and 1 would be people's own answers.",
        used,
    )


def record_readings(readings: pd.DataFrame) -> list[dict]:
    """Records of `choose_readings`: `reading_agreement` (the reading is the method), and `reading_chosen` of those chosen."""
    named = readings.assign(method=readings["readout"])
    chosen = named[named["chosen"]].drop(columns=["low", "high"]).assign(value=1.0)
    return list_records(named, "reading_agreement", unit="correlation") + list_records(chosen, "reading_chosen", unit="count")


def record_answering(by_number: pd.DataFrame, chosen: pd.DataFrame) -> list[dict]:
    """Records of two `describe_readouts`: `option_mass` and `refusal_mass` of the label's reading, `answer_entropy` of the chosen one."""
    parts = [
        (by_number, "option mass", "option_mass", "label"), (by_number, "refusal mass", "refusal_mass", "label"),
        (chosen, "entropy", "answer_entropy", "chosen"),
    ]  # fmt: skip
    return [
        record for frame, column, metric, method in parts
        for record in list_records(frame.rename(columns={"adapter": "culture", column: "value"}), metric, unit="share", method=method)
    ]  # fmt: skip


def state_number(records: list[dict], cfg: Config) -> Sentence:
    """Whether the untuned model names an option at all, and how much the order of the options decides, from `option_mass` and `order_bias`."""
    mass, bias = (_pick(records, metric, untuned=True) for metric in ("option_mass", "order_bias"))
    text = (
        f"Before tuning the model names an option's number with a probability of {_span(mass)}. An answer to one order of the "
        f"options lies {_span(bias)} from the mean over orders, in total variation (0: the same answer in every order)."
    )
    return Sentence("number", text, mass + bias)


def state_answering(records: list[dict], cfg: Config) -> Sentence:
    """How even the answers are before and after tuning, each culture asked in its own language, from `answer_entropy`."""
    parts, used = [], []
    for (name, culture), model in product(cfg.cultures.items(), cfg.models):
        where = {"language": culture.language, "model": model, "persona": "none"}
        stages = [{"culture": name, "stage": stage} for stage in ("ppo", "sft")]
        before, *after = (pick_record(records, "answer_entropy", **where, **own) for own in ({"stage": "zero_shot"}, *stages))
        after = next((record for record in after if record), None)
        if before and after:
            parts.append(
                f"{before['value']:.0%} before tuning and {after['value']:.0%} {cfg.names[after['stage']]} ({cfg.call(model, name)})"
            )
            used += [before, after]
    text = "How evenly the answers spread over the options, where 100% is the same share for each: "
    return Sentence(
        "answering", f"{text}{' and '.join(parts)}." if parts else "No adapter was asked in its own culture's language.", used
    )


def state_shift(records: list[dict], cfg: Config) -> Sentence:
    """Whether the tuned answers moved toward the culture taught, each culture asked in its own language, and more than toward the others.

    From `shift_toward_target` and `shift_contrast` records: flatter answers come nearer to every country, which is no move toward one.
    """
    parts, used = [], []
    asked = {record["stage"] for record in _pick(records, "shift_toward_target")}
    stage = next((stage for stage in ("ppo", "sft") if stage in asked), None)
    for (name, culture), model in product(cfg.cultures.items(), cfg.models):
        own = {"culture": name, "language": culture.language, "stage": stage, "model": model}
        shift, contrast = (pick_record(records, metric, **own) for metric in ("shift_toward_target", "shift_contrast"))
        if shift is None:
            continue
        moved = judge_change(shift["value"], shift["low"], shift["high"], margin=SMALL)
        told = f"taught {cfg.call(model, name)}, they {MOVED[moved]} ({write_interval(shift, '+.3f')})"
        used.append(shift)
        if contrast is not None and moved in BESIDE:
            side = "more" if contrast["low"] > 0 else "less" if contrast["high"] < 0 else "alike"
            told += f", {BESIDE[moved][side]} the other country (difference {write_interval(contrast, '+.3f')})"
            used.append(contrast)
        parts.append(told)
    if not parts:
        return Sentence("shift", "No adapter was asked in its own culture's language, so that no shift is measured.", [])
    over = " and ".join(dict.fromkeys(f"{record['n']:.0f}" for record in used))
    return Sentence("shift", f"Toward their own country, {cfg.names[stage]}, over {over} questions: {'; '.join(parts)}.", used)


def state_positive(records: list[dict], cfg: Config) -> Sentence:
    """Whether what should have moved the answers did (taught half of the survey), beside what should not have (the other culture's adapter),
    each culture asked in its own language: from `shift_toward_target` and `shift_contrast` records."""
    parts, used = [], []
    for (name, culture), model in product(cfg.cultures.items(), cfg.models):
        own = {"culture": name, "language": culture.language, "model": model}
        found = [
            [pick_record(records, metric, stage=stage, **own) for metric in ("shift_toward_target", "shift_contrast")]
            for stage in (SURVEY_TAUGHT, FOREIGN, PERSONA)
        ]
        (taught, beside), (foreign, _), (persona, _) = found
        if taught is None or beside is None:
            continue
        worked = taught["low"] > 0 and taught["value"] >= SMALL and beside["low"] > 0
        told = "worked" if worked else "did not work"
        parts.append(
            f"By distance the taught control {told} for {cfg.call(model, name)}: taught what its people answer to half of the questions, the model "
            f"moved on the others by {write_interval(taught, '+.3f')} toward it and {taught['value'] - beside['value']:+.3f} toward the other country."
        )
        used += [taught, beside]
        if persona is not None:
            parts.append(f"Asked as a person from there, the untuned model moved by {write_interval(persona, '+.3f')}.")
            used.append(persona)
        if foreign is not None:
            parts.append(
                f"The other culture's adapter moved the answers by {write_interval(foreign, '+.3f')} toward {cfg.call(model, name)}."
            )
            used.append(foreign)
    return Sentence("positive", " ".join(parts) or "No control was taught the survey, or there is no other country.", used)


def state_verdict(records: list[dict], cfg: Config) -> Sentence:
    """Whether tuning moved the answers and whether one could have seen it, for the last stage of every culture in its own language.

    From `shift_verdict_distance`, `shift_verdict_slope` (the verdict is their method) and `smallest_visible_distance` records.
    """
    metrics = ("shift_verdict_distance", "shift_verdict_slope", "smallest_visible_distance")
    told, used, visible, above = {}, [], [], []
    for (name, culture), model in product(cfg.cultures.items(), cfg.models):
        own = {"culture": name, "language": culture.language, "model": model, "stage": "ppo"}
        found = [pick_record(records, metric, **own) for metric in metrics]
        if None in found:
            continue
        place = cfg.call(model, name)
        distance, slope = (
            VERDICTS[one["method"]] + (f" ({write_interval(one, '+.3f')})" if one["method"] in (AWAY, BEYOND) else "")
            for one in found[:2]
        )
        above += [
            f"{write_interval(one, '+.3f')} by {measure} ({place})" for one, measure in zip(found, ("distance", "slope"), strict=False)
            if one["low"] > 0 and one["method"] not in (BEYOND, UNCONTROLLED)
        ]  # fmt: skip
        told.setdefault(distance if distance == slope else f"by distance {distance}; by slope {slope}", []).append(place)
        visible.append(f"{found[2]['value']:.3f} ({place})")
        used += found
    if not told:
        return Sentence(
            "verdict",
            "No adapter was asked in its own culture's language, or there is no other country, so that there is no verdict.",
            [],
        )
    parts = ". ".join(f"For {' and '.join(places)} {verdict}" for verdict, places in told.items())
    parts += f". Above 0, but not by every test: {' and '.join(above)}" if above else ""
    text = f"Did PPO move the survey's answers toward the culture? {parts}. A shift by distance of {' and '.join(visible)} of the scale would be "
    return Sentence("verdict", text + "told from 0 four times in five; to show that it favours one country takes more.", used)


def state_counts(records: list[dict], cfg: Config) -> Sentence:
    """On how many high-tension items the first model's answers are on China's side, before and after, from `aligned_with_china` records."""
    _, china = pick_pair(cfg.cultures) or (None, None)
    where = {"model": next(iter(cfg.models)), "language": cfg.cultures[china].language if china else None}
    states = (
        {"stage": "zero_shot", "culture": "none", **where},
        {"stage": "ppo", "culture": china, **where},
        {"stage": "uniform"},
    )
    found = [pick_record(records, "aligned_with_china", **state) for state in states]
    taught = pick_record(records, "aligned_with_china", stage=SURVEY_TAUGHT, culture=china, **where)
    if None in found:
        return Sentence("counts", "This run does not compare China with another country, so that nothing is counted.", [])
    before, after, even = (f"{round(record['value'] * record['n'], 1):g}" for record in found)
    text = (
        f"Of the {found[1]['n']:.0f} questions on which the countries differ most, the answers are nearer to China on {before} before tuning and "
        f"on {after} after PPO (share {write_interval(found[1])}). Even answers would be on {even}"
    )
    if taught:
        text += f", those of the model taught half of China's own answers are on {round(taught['value'] * taught['n'], 1):g}"
        found.append(taught)
    return Sentence("counts", f"{text}. The paper counts 13 of 50 before and 25 after, for another model.", found)


def _pick(records: list[dict], metric: str, *, untuned: bool = False) -> list[dict]:
    """Records of a metric, or of those the untuned model's."""
    return [record for record in records if record["metric"] == metric and (not untuned or record["stage"] == "zero_shot")]


def _span(records: list[dict]) -> str:
    """The smallest and the largest value."""
    values = [record["value"] for record in records]
    low, high = (f"{value:.2f}" for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"
