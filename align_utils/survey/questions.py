"""What is asked, each item in every order of its options, and the table of what was answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pandera.pandas as pa

from align_utils.config.profiles import Config
from align_utils.models.prompts import build_survey_prompt, list_orders

# Who answers: the model, the culture of its adapter's norms ('none'), the stage of training, the language and the persona asked in.
ANSWERER = ["model", "adapter", "stage", "language", "persona"]
_SHARE = pa.Check.in_range(0, 1.01)  # sums of 16-bit probabilities may pass one by their rounding
# One row an answer option of a question in one order.
ANSWERS = pa.DataFrameSchema({
    **{name: pa.Column() for name in ANSWERER},
    "seed": pa.Column(int),  # of the training; the untuned model has the profile's
    "readout": pa.Column(),  # 'label' or one of ask.TEXT_READINGS
    "question": pa.Column(),
    "order": pa.Column(int, pa.Check.ge(0)),
    "place": pa.Column(int, pa.Check.ge(1)),
    "code": pa.Column(int),
    "probability": pa.Column(float, _SHARE),  # of the option mass
    "option_mass": pa.Column(float, _SHARE),
    "refusal_mass": pa.Column(float, _SHARE, nullable=True),  # of the question's first order; with the label alone
    "place_prior": pa.Column(float, _SHARE, nullable=True),  # debias.estimate_prior over all items of the kind
})  # fmt: skip


@dataclass(frozen=True)
class Question:
    """An item in one order of its options, in one language and persona, with its prompt."""

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

    @property
    def group(self) -> tuple[str, str, str]:
        """Language, persona and item: what begins alike."""
        return self.language, self.persona, self.question


def list_questions(cfg: Config, items: pd.DataFrame) -> list[Question]:
    """Everything the profile asks: languages x personas x items x option orders (`prompts.list_orders`)."""
    asked = []
    for language in cfg.languages.values():
        for persona in cfg.profile.survey.personas:
            lead = "" if persona == "none" else language.personas[persona]
            for item in items.to_dict("records"):
                labels = item[f"labels_{language.name}"]
                for order in list_orders(len(labels), numeric=any(label.isdigit() for label in labels)):
                    closed, opened = (
                        build_survey_prompt(language, item[f"text_{language.name}"], labels, order, persona=lead, lead=last)
                        for last in (language.answer_lead, language.text_lead)
                    )
                    asked.append(Question(
                        item["question"], language.name, persona, tuple(order), tuple(item["codes"]), closed, opened,
                        tuple(labels[index] for index in order), tuple(language.answer_forms),
                    ))  # fmt: skip
    return asked


def pick_sample(asked: Sequence[Question], size: int) -> list[Question]:
    """The first order of `size` items, spread over all, in every language and persona."""
    items = list(dict.fromkeys(q.question for q in asked))
    sample = {items[round(place)] for place in np.linspace(0, len(items) - 1, min(size, len(items)))}
    first: dict[tuple, Question] = {}
    for q in asked:
        if q.question in sample:
            first.setdefault(q.group, q)
    return list(first.values())


def tabulate_answers(
    asked: Sequence[Question], scores: Sequence[np.ndarray], masses: Sequence[float] | None = None
) -> pd.DataFrame:
    """One row an answer option: `language, persona, question, order, place, code, probability, option_mass` (default the scores' sum).

    Where no option has any mass the question tells nothing: it gets even shares, so that the other orders stay balanced when they
    are averaged with it, and is known by its `option_mass` of 0.
    """
    rows, seen = [], {}
    for q, score, mass in zip(asked, scores, masses or [score.sum() for score in scores], strict=True):
        number = seen[q.group] = seen.get(q.group, -1) + 1
        total = score.sum()
        shares = score / total if total != 0 else np.full(len(score), 1 / len(score))
        rows += [
            {"language": q.language, "persona": q.persona, "question": q.question, "order": number, "place": place + 1,
             "code": q.codes[index], "probability": shares[place], "option_mass": mass}
            for place, index in enumerate(q.order)
        ]  # fmt: skip
    return pd.DataFrame(rows)
