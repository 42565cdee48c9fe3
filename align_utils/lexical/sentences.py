"""Metric records of associations, and what they say of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

import pandas as pd

from align_utils.config.profiles import Config
from align_utils.config.settings import Culture
from align_utils.config.stages import FOREIGN, SAME_SIZE
from align_utils.lexical.precision import RATED
from align_utils.stats import judge_change
from align_utils.store.page import METRIC_FIELDS, Sentence, pick_record
from align_utils.store.tables import INTERVAL, write_interval

# Of Precision@5, the largest change that does not matter: one word in about seven lists of five, which no reader of lists would see.
PRECISION_MARGIN = 0.03
# Of the different words that a concept gets in all its lists, the largest change that does not matter: every other concept one word.
VARIETY_MARGIN = 0.5
# Statistic of the headline record of each rating; the paper states the median for concreteness alone.
STATISTICS = {"concreteness": "median"}
# Of the measures that are no share.
UNITS = {
    "distinct_words": "words",
    **dict.fromkeys(["entropy", "entropy_gap"], "bits"),
    **dict.fromkeys(["distinct", "distinct_gap"], "responses"),
}
# What each comparison tells, where the run has it.
TELLS = {
    "sft - few_shot": "what SFT adds",
    "ppo - few_shot": "what SFT and PPO add",
    "few_shot - graph": "what the model knew beyond counting",
    "sft - graph": "what the model knows after SFT beyond counting",
    "ppo - graph": "what it knows after PPO beyond counting",
    "ppo - sft": "what PPO adds",
    "sft - control_shuffled": "what the right cue for each list adds",
    "sft_same_size - control_other_culture": "what the own culture adds, at equal size",
    "control_other_culture - few_shot": "what another culture's lists teach, translated",
    "control_foreign - few_shot": "what carries over from the other language",
}
SUBJECTS = {
    "sft": "the model after SFT", "graph": "counting alone", "control_shuffled": "one that was taught the lists under shuffled cues",
    SAME_SIZE: "the model taught equally many cues of its own culture", "control_other_culture": "one taught the other culture's norms",
}  # fmt: skip


# Of training: its name, the stage after it and the one before.
STEPS = (("SFT", "sft", "few_shot"), ("PPO", "ppo", "sft"))


def record_estimates(
    cultures: Mapping[str, Culture], table: pd.DataFrame, metric: str, *, unit: str | None = "share", **constants
) -> list[dict]:
    """Metric records of a table with a `culture`; each row fills its columns into the name `metric`, and its `comparison` is the method.

    >>> from align_utils import config
    >>> table = pd.DataFrame({"culture": ["us"], "reading": ["top"], "comparison": ["sft - graph"], "value": [0.1], "effect": [0.2]})
    >>> record_estimates(config.load("smoke").cultures, table, "precision_{reading}_difference")[0]["metric"]
    'precision_top_difference'
    """
    records = []
    for row in table.rename(columns={"comparison": "method"}).to_dict("records"):
        kept = {field: value for field, value in row.items() if field in METRIC_FIELDS}
        language = cultures[row["culture"]].language
        own = UNITS.get(row.get("measure"), unit)
        records.append({"language": language, "unit": own, **constants, **kept, "metric": metric.format(**row)})
    return records


def record_precision(cultures: Mapping[str, Culture], precision: pd.DataFrame, differences: pd.DataFrame) -> list[dict]:
    """Records of `precision_at_5_*` with differences, and `human_ceiling_at_5` (the reading is its method).

    `precision` is of `summarise_precision` and `summarise_ceiling`, `differences` of `compare_stages`. The models on the cues that people
    answered stand in the table alone.
    """
    people = precision["stage"] == "human"
    # Of a culture without participants there is none.
    ceiling = precision[people].assign(method=lambda own: own["reading"], subset="all")
    return [
        *record_estimates(cultures, precision[~people & (precision["subset"] != "answered")], "precision_at_5_{reading}"),
        *record_estimates(cultures, ceiling, "human_ceiling_at_5"),
        *record_estimates(cultures, differences, "precision_at_5_{reading}_difference"),
    ]


def keep_extra(cfg: Config, table: pd.DataFrame) -> pd.DataFrame:
    """The rows of a table, by its `stage` or `comparison`, that concern a stage which only the appendix has."""
    extra = {"zero_shot", "sft_graph", *cfg.profile.critic_free.methods}
    names = table["stage" if "stage" in table else "comparison"]
    return table[[not extra.isdisjoint(name.split(" - ")) for name in names]]


def record_drawn(cultures: Mapping[str, Culture], means: pd.DataFrame, changes: pd.DataFrame) -> list[dict]:
    """Records of `drawn_precision_at_5_*` and `drawn_distinct_words`, and of their differences; the tables are of `drawn.draw_run`."""
    return [
        *record_estimates(cultures, means, "drawn_{measure}", decoding="sampled"),
        *record_estimates(cultures, changes, "drawn_{measure}_difference", decoding="sampled"),
    ]


def record_ratings(cultures: Mapping[str, Culture], means: pd.DataFrame, gaps: pd.DataFrame, level: pd.DataFrame) -> list[dict]:
    """Records such as `valence_mean`, `concreteness_median`, their differences, and `human_level_difference` and `.._p` (method: rating).

    The tables are of `ratings.summarise_ratings`, `compare_ratings` and `judge_human_level`.
    """
    headline = means[means["statistic"] == means["rating"].map(STATISTICS).fillna("mean")]
    medians = gaps.drop(columns=["value", "low", "high"]).rename(columns={"median": "value"})
    level = level.assign(method=level["rating"])
    p = level.drop(columns=["value", "low", "high"]).rename(columns={"p": "value"})
    return [
        *record_estimates(cultures, headline, "{rating}_{statistic}", unit="scale points"),
        *record_estimates(cultures, gaps, "{rating}_difference", unit="scale points"),
        *record_estimates(cultures, medians, "{rating}_median_difference", unit="scale points"),
        *record_estimates(cultures, level, "human_level_difference", unit="scale points"),
        *record_estimates(cultures, p, "human_level_p", unit=None),
    ]


def explain_differences(differences: pd.DataFrame) -> pd.DataFrame:
    """The differences of `compare_stages`, those of TELLS first and in its order, and what each `tells` (nothing: the rest)."""
    order = {comparison: place for place, comparison in enumerate(TELLS)}
    told = differences.assign(tells=differences["comparison"].map(TELLS).fillna(""))
    return told.sort_values("comparison", key=lambda names: names.map(order), kind="stable", ignore_index=True)


def state_precision(records: Sequence[dict], cfg: Config) -> Sentence:
    """What SFT does to Precision@5, and what PPO adds, from `precision_at_5_attested` records and their differences."""
    parts, used = tell_steps(records, cfg, "precision_at_5_attested", "Precision@5", PRECISION_MARGIN, subset="all")
    return Sentence("precision", " ".join(parts) or "Precision@5 was not measured in this run.", used)


def state_drawn(records: Sequence[dict], cfg: Config) -> Sentence:
    """What PPO does to the lists that are drawn, and to their variety, from `drawn_precision_at_5_attested` and `drawn_distinct_words`."""
    thing, price = (
        "the Precision@5 of drawn lists",
        f"the number of different words in a concept's {cfg.profile.lexical.drawn} lists ({RATED * cfg.profile.lexical.drawn} at most)",
    )
    parts, used = tell_steps(records, cfg, "drawn_precision_at_5_attested", thing, PRECISION_MARGIN, steps=STEPS[1:])
    paid, more = tell_steps(records, cfg, "drawn_distinct_words", price, VARIETY_MARGIN, steps=STEPS[1:])
    return Sentence("drawn", " ".join(parts + paid) or "No lists were drawn after PPO in this run.", used + more)


def state_controls(records: Sequence[dict], cfg: Config) -> Sentence:
    """Whether SFT's gain is that of the norms, from differences of `precision_at_5_attested` to the graph and the controls."""
    parts, used = [], []
    for comparison in ("sft - graph", "sft - control_shuffled", f"{SAME_SIZE} - control_other_culture"):
        new, old = (SUBJECTS[stage] for stage in comparison.split(" - "))
        found = find_cells(records, cfg, "precision_at_5_attested_difference", method=comparison, subset="all")
        parts += write_verdicts(_judge_cells(found, PRECISION_MARGIN), {
            "up": f"{new} scores higher than {old}: by", "down": f"{new} scores lower than {old}: by",
            "flat": f"{new} scores like {old}, within {PRECISION_MARGIN}: a difference of",
            "undecided": "{n} concepts do not decide between " + f"{new} and {old}: a difference of",
        })  # fmt: skip
        used += found.values()
    beside, more = tell_beside_start(records, cfg)
    parts, used = [*parts, *beside], [*used, *more]
    if not cfg.profile.controls:
        parts.append(
            "This profile trains no control on wrong norms, so it does not show how much of SFT's gain is the form of the lists; profiles "
            "with `controls` do."
        )
    return Sentence("controls", " ".join(parts), used)


def tell_beside_start(records: Sequence[dict], cfg: Config) -> tuple[list[str], list[dict]]:
    """Sentences on what the controls do to the untuned model's Precision@5, and their records: the other culture's adapter, by the paired
    difference; shuffled cues, where the two intervals lie apart."""
    metric, where = "precision_at_5_attested", {"subset": "all"}
    foreign, gain = (
        find_cells(records, cfg, f"{metric}_difference", method=f"{new} - few_shot", **where) for new in (FOREIGN, "sft")
    )
    start, shuffled = (find_cells(records, cfg, metric, stage=stage, **where) for stage in ("few_shot", "control_shuffled"))
    told, moved = _judge_cells({cell: gap for cell, gap in foreign.items() if cell in gain}, PRECISION_MARGIN), {}
    for cell, (verdict, change, n) in told.items():
        told[cell] = verdict, f"{change} beside SFT's {gain[cell]['value']:+.2f}", n
    for cell in [cell for cell in shuffled if cell in start]:
        before, after = start[cell], shuffled[cell]
        verdict = "down" if after["high"] < before["low"] else "up" if after["low"] > before["high"] else "undecided"
        moved[cell] = verdict, f"from {write_interval(before)} to {write_interval(after)}", after["n"]
    adapter = "the other culture's adapter"
    parts = write_verdicts(told, {
        "up": f"{adapter} lifts Precision@5 above the untuned model's too, so that this much of the gain is not the culture's own:",
        "down": f"{adapter} lowers Precision@5 below the untuned model's:",
        "flat": f"{adapter} leaves Precision@5 where the untuned model has it, within {PRECISION_MARGIN}:",
        "undecided": f"the effect of {adapter} on the untuned model's Precision@5 is unclear with " + "{n} concepts:",
    }) + write_verdicts(moved, {
        "up": "shuffled cues lift Precision@5 above the untuned model's, so that part of SFT's gain is the form of the lists:",
        "down": "shuffled cues push Precision@5 below the untuned model's, so that SFT's lead over them is larger than its gain:",
    })  # fmt: skip
    used = [cells[cell] for cells in (foreign, gain) for cell in told]
    return parts, used + [cells[cell] for cells in (start, shuffled) for cell in moved if moved[cell][0] != "undecided"]


def state_ratings(records: Sequence[dict], cfg: Config) -> Sentence:
    """Whether PPO's words are as concrete, pleasant and exciting as people's, from `human_level_difference` records.

    Their intervals are of 90 %: within the margin, the test of equivalence has p < 0.05.
    """
    told, used = {"at": {}, "differ": {}, "not": {}, "untestable": {}}, []
    for model, culture in product(cfg.models, cfg.cultures):
        for name, rule in cfg.language_of(culture).ratings.items():
            where = {"model": model, "culture": culture, "method": name}
            found = [pick_record(records, "human_level_difference", stage=stage, **where) for stage in ("human_top5", "ppo")]
            if None in found:
                continue
            margin = cfg.profile.ratings.margin * (rule.high - rule.low)
            people, tuned = (not pd.isna(one["low"]) and -margin < one["low"] <= one["high"] < margin for one in found)
            apart = found[1]["low"] > 0 or found[1]["high"] < 0
            kind = "untestable" if not people else "at" if tuned else "differ" if apart else "not"
            told[kind].setdefault(cfg.label(model, culture), []).append(name)
            used += found
    subject = "the model's words lie within the margin of people's"
    texts = {
        "at": (f"After PPO {subject} in {{}}.", "both countries"),
        "differ": (f"{'They' if told['at'] else 'After PPO the words'} differ from people's in {{}}, by intervals of 90 %.", "both countries"),
        "not": (f"Whether after PPO {subject} is unclear for {{}}.", "both countries"),
        "untestable": (f"Whether {subject} cannot be tested for {{}}: people's own five strongest words fail the test.", "either country"),
    }  # fmt: skip
    parts = [
        text.format(_group(cfg, {cell: _join(names) for cell, names in told[kind].items()}, everywhere))
        for kind, (text, everywhere) in texts.items()
        if told[kind]
    ]
    return Sentence("ratings", " ".join(parts) or "No word of the model has a rating here, so none were compared.", used)


def describe_precision(cfg: Config, precision: pd.DataFrame) -> str:
    """The caption of the table of `summarise_precision`: what is shown, and how many concepts people answered."""
    text = "Mean share of the first five words that people said too, with 95 % intervals."
    own = precision[(precision["stage"] == "human") & (precision["model"] == next(iter(cfg.models)))].drop_duplicates("culture")
    sizes = precision[precision["subset"] == "all"].groupby("culture")["n"].max()
    told = {cfg.names[culture]: f"{n:.0f} of {sizes[culture]:.0f}" for culture, n in zip(own["culture"], own["n"], strict=True)}
    return (
        f"{text} Concepts with single people's answers, by which people are scored: {_group(cfg, told, 'both countries')}."
        if told
        else text
    )


def find_cells(records: Sequence[dict], cfg: Config, metric: str, **fields) -> dict[str, dict]:
    """Name of a culture (and model, where a run has several) to its one record with these fields; none for a cell without."""
    found = {
        cfg.label(model, culture): pick_record(records, metric, model=model, culture=culture, **fields)
        for model, culture in product(cfg.models, cfg.cultures)
    }
    return {cell: record for cell, record in found.items() if record is not None}


def tell_steps(
    records: Sequence[dict], cfg: Config, metric: str, thing: str, margin: float, *, steps=STEPS, **fields
) -> tuple[list[str], list[dict]]:
    """A sentence for each verdict on the steps, SFT beside the untuned model and PPO beside SFT; and the records behind them."""
    parts, used = [], []
    for name, new, old in steps:
        gaps = find_cells(records, cfg, f"{metric}_difference", method=f"{new} - {old}", **fields)
        before, after = (find_cells(records, cfg, metric, stage=stage, **fields) for stage in (old, new))
        told = _judge_cells({cell: gap for cell, gap in gaps.items() if cell in before and cell in after}, margin)
        for cell, (verdict, _, n) in told.items():
            if verdict in ("up", "down"):
                told[cell] = verdict, f"from {write_interval(before[cell])} to {write_interval(after[cell])}", n
            used += [gaps[cell], before[cell], after[cell]]
        parts += write_verdicts(told, {
            "up": f"{name} lifts {thing}", "down": f"{name} lowers {thing}",
            "flat": f"{name} leaves {thing} where it was, within {margin}: a change of",
            "undecided": f"The effect of {name} on {thing} is unclear with " + "{n} concepts: a change of",
        })  # fmt: skip
    return parts, used


def _judge_cells(gaps: dict[str, dict], margin: float) -> dict[str, tuple[str, str, int]]:
    """Cell to what `write_verdicts` reads of a difference: its verdict, the difference in words, and the number of concepts."""
    return {
        cell: (judge_change(*(gap[end] for end in INTERVAL), margin=margin), write_interval(gap, "+.2f"), gap["n"])
        for cell, gap in gaps.items()
    }


def write_verdicts(told: dict[str, tuple[str, str, int]], texts: dict[str, str]) -> list[str]:
    """One sentence for each verdict of `texts` that a cell has; `told`: cell to verdict, words and number of concepts (`{n}` in a text)."""
    parts = []
    for verdict, text in texts.items():
        mine = [(f"{words} ({cell})", n) for cell, (own, words, n) in told.items() if own == verdict]
        if mine:
            start = text.replace("{n}", f"{max(n for _, n in mine):.0f}")
            parts.append(f"{start[0].upper()}{start[1:]} {_join([words for words, _ in mine])}.")
    return parts


def _group(cfg: Config, told: dict[str, str], everywhere: str) -> str:
    """Cells that are told the same share a place; what is told of both countries of a run says so with the word `everywhere`."""
    groups: dict[str, list[str]] = {}
    for cell, text in told.items():
        groups.setdefault(text, []).append(cell)
    pair = len(cfg.models) == 1 and len(cfg.cultures) == 2
    parts = [f"{text} in {everywhere}" if pair and len(own) == 2 else f"{text} ({_join(own)})" for text, own in groups.items()]
    return _join(parts)


def _join(items: Sequence[str]) -> str:
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)
