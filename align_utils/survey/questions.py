"""Presentations of the survey's items: what is asked in which order of the options, and the table of what was answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from align_utils.config.profiles import Config
from align_utils.models.prompts import build_survey_prompt, list_orders


@dataclass(frozen=True)
class Question:
    """One presentation of an item: its prompt, the order of its options and where it belongs."""

    question: str
    language: str
    persona: str
    order: tuple[int, ...]
    codes: tuple[int, ...]
    prompt: str
    # The same question with the lead of an answer in words, the option texts in their order, and what may stand before an answer.
    open_prompt: str = ""
    options: tuple[str, ...] = ()
    forms: tuple[str, ...] = (" ", "")

    @property
    def worded(self) -> bool:
        """Whether every option has words (inner points of a ten-point scale are bare numerals)."""
        return not any(option.isdigit() for option in self.options)


def list_questions(cfg: Config, items: pd.DataFrame) -> list[Question]:
    """Every presentation the profile asks: items x languages x personas x option orders (`prompts.list_orders`)."""
    asked, survey = [], cfg.profile.survey
    for language in cfg.languages.values():
        for persona in survey.personas:
            lead = "" if persona == "none" else language.personas[persona]
            for item in items.to_dict("records"):
                labels = item[f"labels_{language.name}"]
                numeric = any(label.isdigit() for label in labels)
                for order in list_orders(len(labels), numeric=numeric, orders=survey.orders, most=survey.most_orders):
                    closed, opened = (
                        build_survey_prompt(language, item[f"text_{language.name}"], labels, order, persona=lead, lead=last)
                        for last in (language.answer_lead, language.text_lead)
                    )
                    asked.append(Question(
                        item["question"], language.name, persona, tuple(order), tuple(item["codes"]), closed, opened,
                        tuple(labels[index] for index in order), tuple(language.answer_forms),
                    ))  # fmt: skip
    return asked


def pick_sample(cfg: Config, asked: Sequence[Question]) -> list[Question]:
    """The first order of `survey.sample_items` items, spread over all, in every language and persona."""
    items = list(dict.fromkeys(q.question for q in asked))
    sample = {items[round(place)] for place in np.linspace(0, len(items) - 1, min(cfg.profile.survey.sample_items, len(items)))}
    first: dict[tuple, Question] = {}
    for key, q in zip(name_groups(asked), asked, strict=True):
        if q.question in sample:
            first.setdefault(key, q)
    return list(first.values())


def name_groups(asked: Sequence[Question]) -> list[tuple[str, str, str]]:
    """Language, persona and question of every presentation: what begins alike."""
    return [(q.language, q.persona, q.question) for q in asked]


def tabulate_answers(asked: Sequence[Question], scores: Sequence[np.ndarray], masses: Sequence[float]) -> pd.DataFrame:
    """One row an answer option of each presentation: `language, persona, question, order, place, code, probability, option_mass`.

    A presentation of which no option has any mass tells nothing: it gets even shares, so that the others' orders stay balanced when
    they are averaged with it, and is known by its `option_mass` of 0 (`answers.describe_answers` counts them).
    """
    rows, seen = [], {}
    for q, score, mass in zip(asked, scores, masses, strict=True):
        number = seen[q.language, q.persona, q.question] = seen.get((q.language, q.persona, q.question), -1) + 1
        total = score.sum()
        shares = score / total if total != 0 else np.full(len(score), 1 / len(score))
        for place, index in enumerate(q.order):
            rows.append({
                "language": q.language, "persona": q.persona, "question": q.question, "order": number, "place": place + 1,
                "code": q.codes[index], "probability": shares[place], "option_mass": mass,
            })  # fmt: skip
    return pd.DataFrame(rows)
