"""Settings of word ratings: scales, the published forms they come in, and how a response finds its rating."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field


class RatingSource(BaseModel, extra="forbid", frozen=True):
    """One published form of a rating; `low`, `high` where the form's scale ends are not the rating's, `sheet` in a workbook."""

    files: list[str]
    word: str = "Word"
    value: str
    sheet: str | None = None
    low: float | None = None
    high: float | None = None
    reversed: bool = False


class Anchors(BaseModel, extra="forbid", frozen=True):
    """Words of which nobody doubts at which end of the scale they lie: they tell a reversed scale and a wrong column."""

    high: list[str]
    low: list[str]


class Rating(BaseModel, extra="forbid", frozen=True):
    """One rating of a language: its scale, and the forms it may be found in, in order of preference."""

    low: float
    high: float
    anchors: Anchors
    sources: list[RatingSource]


class Script(BaseModel, extra="forbid", frozen=True):
    """Another script of the language: its name, common characters of it alone, and the OpenCC conversion from it."""

    name: str
    marks: str
    convert: str


class RatingRules(BaseModel, extra="forbid", frozen=True):
    """How a response finds its rating, and into how many frequency bands people's responses are put."""

    lemma_backoff: bool
    multiword: Literal["exact", "lemma"]
    bands: int = Field(gt=1)
