"""What the survey's notebooks say, in sentences made from metric records."""

from __future__ import annotations

import pandas as pd

from align_utils.config.profiles import Config
from align_utils.store.page import Sentence, list_records

# An entropy relative to uniform above this is an answer that is nearly even, whatever is asked.
EVEN = 0.98


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
        f"A single order moves {_span(own, tuned=False)} of an answer's probability away from the mean over orders before tuning, and "
        f"{_span(own, tuned=True)} after it; the mean over orders takes this out."
    )
    return Sentence("order", text, own)


def _pick(records: list[dict], metric: str) -> list[dict]:
    return [record for record in records if record["metric"] == metric]


def _span(records: list[dict], *, tuned: bool | None = None) -> str:
    """The smallest and the largest value of all records, of the untuned model's or of the adapters'."""
    values = [record["value"] for record in records if tuned is None or (record["culture"] != "none") == tuned]
    low, high = (f"{value:.2f}" for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"
