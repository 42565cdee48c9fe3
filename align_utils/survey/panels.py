"""What `plots.survey.plot_items` shows of single questions: people's answers beside the model's, before and after tuning."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd

from align_utils.config.profiles import Config
from align_utils.survey.answers import average_orders
from align_utils.survey.distances import pick_pair, rank_items
from align_utils.survey.human import Human
from align_utils.survey.values import Values


def list_panels(
    cfg: Config, answers: pd.DataFrame, human: pd.DataFrame, items: pd.DataFrame, questions: Sequence[str], *, culture: str
) -> pd.DataFrame:
    """What people of all cultures answer to questions, and the run's first model before and after (PPO, else SFT) a culture's norms, for
    `plots.survey.plot_items`.

    `answers` are ANSWERS, of which those of the untuned model and of the adapters of `culture` are taken, asked in its language; of
    several seeds the mean. `human` are SHARES, `items` from `items.choose_items`, `questions` in the order wanted.

    Returns `panel` (question and its English words), `place` (0 is the first point of the scale), `answerer` (stage, or label
    of a culture), `share`, `first, last` (labels of the ends).
    """
    asked = answers[(answers["model"] == next(iter(cfg.models))) & answers["question"].isin(questions)]
    asked = asked[(asked["language"] == cfg.cultures[culture].language) & asked["adapter"].isin(["none", culture])]
    last = next((stage for stage in ("ppo", "sft") if stage in set(asked["stage"])), None)  # two lines stay apart, three do not
    asked = average_orders(asked[asked["stage"].isin(["zero_shot", last])])
    asked = asked.groupby(["stage", "question", "code"], sort=False)["share"].mean().reset_index(name="share")
    both = pd.concat([asked.rename(columns={"stage": "answerer"}), human.assign(answerer=human["culture"].map(cfg.names))])
    chosen = items.set_index("question", drop=False).loc[list(questions)]
    scales = pd.DataFrame({
        "question": chosen["question"], "panel": chosen["question"] + "  " + chosen["text_en"], "code": chosen["codes"],
        "place": chosen["codes"].map(lambda codes: list(range(len(codes)))),
        "first": chosen["labels_en"].str[0], "last": chosen["labels_en"].str[-1],
    })  # fmt: skip
    scales = scales.explode(["code", "place"], ignore_index=True).astype({"code": int, "place": int})
    # Scales first: their order is that of the questions and of the points.
    both = scales.merge(both, on=["question", "code"])
    return both[["panel", "place", "answerer", "share", "first", "last"]]


def list_item(cfg: Config, answers: pd.DataFrame, people: Human, items: pd.DataFrame, question: str) -> pd.DataFrame:
    """`list_panels` of one question: a panel a culture, whose adapters are asked in its language."""
    parts = {
        f"norms: {culture.label}, asked in {cfg.language_of(name).label}":
        list_panels(cfg, answers, people.shares, items, [question], culture=name)
        for name, culture in cfg.cultures.items()
    }  # fmt: skip
    return pd.concat([part.assign(panel=panel) for panel, part in parts.items()], ignore_index=True)


def list_six(cfg: Config, answers: pd.DataFrame, people: Human, items: pd.DataFrame) -> pd.DataFrame:
    """`list_panels` of the six questions with an order on which the two countries of `pick_pair` differ most, with the second one's norms."""
    pair = pick_pair(cfg.cultures)
    ranked = rank_items(people.take(items[items["kind"] == "ordered"]).shares, pair, wanted=6)
    culture = pair[1] if pair else next(iter(cfg.cultures))
    return list_panels(cfg, answers, people.shares, items, ranked["question"].head(6), culture=culture)


def list_tension_pages(cfg: Config, values: Values) -> Iterator[tuple[int, pd.DataFrame]]:
    """Page number and `list_panels` of six of the chosen items each."""
    chosen = values.ranked.loc[values.ranked["chosen"], "question"].tolist()
    for start in range(0, len(chosen), 6):
        questions = chosen[start : start + 6]
        yield start // 6 + 1, list_panels(cfg, values.answers, values.human, values.items, questions, culture=values.pair[1])
