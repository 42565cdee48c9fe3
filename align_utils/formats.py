"""What a participant file looks like and how it is cleaned: the fields of `notebooks/formats/*.yaml`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from align_utils.settings import Strict, WordList

RESPONSES = ["R1", "R2", "R3"]
# What an unknown cue becomes on reading; a missing response becomes an empty string.
UNKNOWN = "#Unknown"

Share = Annotated[float, Field(ge=0, le=1)]


class Columns(Strict):
    """Names of the columns in the file, in any case."""

    # Without a participant column (`null`) every row is a participant of its own.
    participant: str | None
    cue: str
    R1: str
    R2: str
    R3: str
    # The speaker's variety, for the steps that prefer or remove one; the culture's own `norms.native` is separate.
    native: str | None = None


class Recognition(Strict):
    """How a file is told: all of `has` and none of `lacks` in its header and, where given, a name that fits one pattern."""

    has: list[str] = Field(min_length=1)
    lacks: list[str] = Field(default=[])
    files: list[str] = Field(default=[])


class Join(Strict):
    """A second file with one row a participant, read when a column is asked for that the trials do not hold."""

    files: list[str]
    key: str


class RecodeDoubles(Strict):
    """R2 = R1, then R3 = R2, become missing; a missing R2 before a given R3 takes its place (R1 = R3 is not tested)."""

    step: Literal["recode_doubles"]


class ReplaceWords(Strict):
    """Replace whole cues or responses by a list of two columns, original and correction."""

    step: Literal["replace_words"]
    columns: list[Literal["cue", "R1", "R2", "R3"]]
    words: WordList
    # Words of this list stay as they are.
    spare: WordList | None = None
    # Whether a word that is itself a correction stays as it is, so that a corrected file passes unchanged.
    settled: bool = False


class SplitJoined(Strict):
    """Answers written into one field are split by a list (original, comma-separated parts); the row keeps its first three."""

    step: Literal["split_joined"]
    words: WordList


class MarkLong(Strict):
    """Long responses become a mark, by the list; without the list those of more than `over` characters."""

    step: Literal["mark_long"]
    words: WordList
    over: int = Field(gt=0)
    mark: str


class MarkRepeats(Strict):
    """A response given twice to one cue by one participant becomes a mark, all but the first."""

    step: Literal["mark_repeats"]
    mark: str


class Rule(Strict):
    """Remove participants by the share of their responses of one kind, or by their variety; the first rule that fits names it.

    Shares: `empty` (missing and unknown), `listed` (in a word list), `listed_types` (distinct words in the list), `repeated`
    (responses given before, and those that bear the `mark`), `ngrams` (more than one word, or a comma or semicolon), `marked`.
    """

    status: str
    share: Literal["empty", "listed", "listed_types", "repeated", "ngrams", "marked"] | None = None
    of: Literal["all", "valid"] = "all"
    above: Share | None = None
    below: Share | None = None
    words: WordList | None = None
    mark: str | None = None
    native: list[str] = Field(default=[])
    # The published English script counts one distinct response too few for who has both missing and unknown responses.
    both_markers_cost_one: bool = False

    @model_validator(mode="after")
    def _one_criterion(self):
        if bool(self.native) == (self.share is not None):
            raise ValueError("give either a share or native varieties")
        if self.share and (self.above is None) == (self.below is None):
            raise ValueError("give either above or below")
        if (self.share in {"listed", "listed_types"}) != (self.words is not None):
            raise ValueError("the shares listed and listed_types, and only they, need words")
        if self.share == "marked" and self.mark is None:
            raise ValueError("the share marked needs a mark")
        return self


class FilterParticipants(Strict):
    """Remove participants that fit one of the rules."""

    step: Literal["filter_participants"]
    rules: list[Rule] = Field(min_length=1)


class SelectBest(Strict):
    """Keep the best trials of every cue: native points, plus participant / max(participant), plus real responses."""

    step: Literal["select_best"]
    per_cue: int = Field(gt=0)
    native: dict[str, float]
    newest: bool = False
    answered: bool = False
    ties: Literal["keep", "first"]
    drop_smaller: bool = False


class DropCues(Strict):
    """Leave out the cues of a list of one column."""

    step: Literal["drop_cues"]
    words: WordList


Step = Annotated[
    RecodeDoubles | ReplaceWords | SplitJoined | MarkLong | MarkRepeats | FilterParticipants | SelectBest | DropCues,
    Field(discriminator="step"),
]


class Format(Strict):
    """One kind of participant file: how it is recognised and read, its markers, and the steps from raw to clean."""

    name: str
    label: str
    recognised: Recognition
    columns: Columns
    # Only where the header cannot tell it; TAB and comma are seen.
    separator: str | None = None
    numeric_participant: bool = True
    # Besides the language's own markers: no response, an unknown cue, and marks that earlier steps of the pipeline left.
    missing: list[str] = Field(default=[])
    unknown: list[str] = Field(default=[])
    marks: list[str] = Field(default=[])
    join: Join | None = None
    steps: list[Step] = Field(default=[])

    @model_validator(mode="after")
    def _newest_needs_numbers(self):
        newest = [step for step in self.steps if isinstance(step, SelectBest) and step.newest]
        if newest and not (self.numeric_participant and self.columns.participant):
            raise ValueError("select_best with newest needs a participant column of numbers")
        return self
