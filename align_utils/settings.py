"""The fields of every YAML file of settings (training, ratings, servers and participant files have modules of their own)."""

from __future__ import annotations

import unicodedata
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from align_utils.rating_settings import Rating, RatingRules, Script
from align_utils.training_settings import CriticFree, Lora, Ppo, Sft

# Punctuation that may surround a response but is not part of it (NFKC has made the Chinese forms narrow by then).
OUTER = " \t\r\n.,;:!?\"'()[]{}<>*-–—_。、“”‘’《》「」"


class ConfigError(ValueError):
    """A configuration file is missing, unreadable or holds a wrong field."""


class Strict(BaseModel):
    """Base of all settings: frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class WordList(Strict):
    """A list that the reader may put beside the participant file; without it the step that needs it is skipped and said."""

    file: str
    # Whether the first line names the columns.
    header: bool


class Native(Strict):
    """Which participants count as native speakers of a culture."""

    column: str
    values: list[str]


class NormFiles(Strict):
    """File patterns of a culture's norms, in order of preference (data/README.md says what the files are)."""

    strengths: dict[Literal["R1", "R123"], list[str]]
    trials: list[str] = []
    native: Native | None = None
    # Name of a file in notebooks/formats, needed only where a participant file fits several.
    format: str | None = None
    # A list of cues to leave out, such as spelling variants of other cues, applied where the reader gives the file.
    doubles: WordList | None = None


class Culture(Strict):
    """One culture: its language, files, survey country and label."""

    name: str
    label: str
    language: str
    survey_country: str
    # The country's name in files that have no code for it; default the label.
    survey_name: str = ""
    survey_n: int = Field(gt=0)
    norms: NormFiles


class Language(Strict):
    """One language: how words are normalised, how a model is asked, where ratings are."""

    name: str
    label: str
    lemmatiser: str | None = None
    remove_spaces: bool = False
    # Lemma-level matching alone: words dropped at the beginning of a response, endings dropped at its end.
    leading: list[str] = []
    endings: list[str] = []
    separator: str
    list_prompt: str
    list_lead: str
    survey_prompt: str
    option_line: str
    # Follows a question whose inner options are bare numerals; it must not name the ends' numerals, which an order may turn round.
    steps_hint: str = ""
    # What the label of an option follows, and the ways of writing that are added up: what stands between lead and label.
    answer_lead: str
    answer_forms: list[str] = Field(default=[" ", ""], min_length=1)
    # What an answer in words follows (option texts, refusals, generated text), after the first of the forms; default answer_lead.
    text_lead: str = ""
    refusals: list[str] = []
    personas: dict[str, str] = {}
    missing: list[str] = []
    ratings: dict[str, Rating] = {}
    other_script: Script | None = None

    def normalise(self, word: str) -> str:
        """The form in which two words are compared: NFKC, case folded, outer punctuation and extra spaces removed.

        Examples
        --------
        >>> from align_utils import config
        >>> config.load("smoke").languages["en"].normalise(" Ice  Cream. ")
        'ice cream'
        """
        folded = unicodedata.normalize("NFKC", word).casefold().strip(OUTER)
        return "".join(folded.split()) if self.remove_spaces else " ".join(folded.split())


class ModelSource(Strict):
    """One base model and the way it is loaded."""

    name: str
    loader: Literal["tiny", "gguf", "transformers"]
    source: str
    backend: Literal["transformers", "unsloth"] = "transformers"
    load_in_4bit: bool = False
    # Of a model in 4 bits: the file in notebooks/models of the same model in 16, which `make export` merges adapters into.
    merge_into: str = ""
    # Name in the paper of a model that the paper tunes; claims are judged on those alone.
    in_paper: str | None = None
    # For tokenizers that ship no pad token of their own.
    pad_token: str | None = None
    # What a download needs, checked before it begins; none for a model that comes otherwise.
    disk_gb: float | None = Field(default=None, gt=0)
    licence: str

    @model_validator(mode="after")
    def _four_bits_by_unsloth(self):
        if self.load_in_4bit and self.backend != "unsloth":
            raise ValueError(
                "load_in_4bit needs `backend: unsloth`: the transformers backend would load the weights as they are"
            )
        return self


class Norms(Strict):
    responses: Literal["R1", "R123"]
    valid_pairs: int = Field(gt=0)
    test_pairs: int = Field(gt=0)


class Decoding(Strict):
    """One way of turning the model into a list; the grid is the same for every stage."""

    name: str
    repetition_penalty: float = Field(default=1, ge=1)
    # No response may begin with the token that an earlier one, or the cue, begins with.
    distinct: bool = False


class Lexical(Strict):
    ks: list[int]
    min_count: int = Field(gt=0)
    matching: Literal["exact", "lemma"]
    few_shot: int = Field(gt=0)
    max_new_tokens: int = Field(gt=0)
    batch: int = Field(gt=0)
    grid: list[Decoding]
    # Lists drawn a test cue (`drawn.draw_lists`); 0 switches them off.
    drawn: int = Field(ge=0)
    ceiling_splits: int = Field(gt=0)


class Participants(Strict):
    """Simulated participants of notebook 04; `n: 0` switches them off."""

    n: int = Field(ge=0)
    cues: int = Field(gt=0)
    # Empty: every stage of the run.
    stages: list[str]
    words: int = Field(ge=1, le=3)
    temperature: float = Field(gt=0)
    max_new_tokens: int = Field(gt=0)
    batch: int = Field(gt=0)


class Survey(Strict):
    items: Literal["core", "all"]
    wording: Literal["ours", "file"]
    # Option orders (`prompts.list_orders`); the orders themselves, not these settings, are in the keys of stored answers.
    orders: Literal["cyclic", "all"] = "cyclic"
    most_orders: int = Field(default=24, gt=0)
    personas: list[str]
    readouts: list[Literal["label", "text", "generated"]] = Field(min_length=1)
    sample_items: int = Field(gt=0)
    generated_tokens: int = Field(gt=0)
    batch_tokens: int = Field(gt=0)
    high_tension: int = Field(gt=0)

    @field_validator("readouts")
    @classmethod
    def _label_first(cls, readouts: list[str]) -> list[str]:
        if "label" not in readouts:
            raise ValueError("'label' is the read-out that the others are compared with and cannot be left out")
        return readouts


class Stats(Strict):
    resamples: int = Field(gt=0)
    level: float = Field(gt=0, lt=1)


class Profile(Strict):
    """The settings of one run, after the overlays are merged."""

    name: str
    description: str
    data: Literal["sample", "real"]
    note: str = ""
    models: list[str] = Field(min_length=1)
    # Untuned models behind a URL, asked in notebook 05 alone (align_utils.server_settings).
    baselines: list[str] = []
    cultures: list[str] = Field(min_length=1)
    seed: int
    # More seeds to train and judge beside `seed`.
    seeds: list[int] = []
    controls: list[Literal["control_shuffled", "control_other_culture", "control_foreign"]] = []
    budget_minutes: dict[str, float]
    norms: Norms
    lora: Lora
    sft: Sft
    ppo: Ppo
    critic_free: CriticFree
    lexical: Lexical
    participants: Participants
    ratings: RatingRules
    survey: Survey
    stats: Stats

    @model_validator(mode="after")
    def _known_decoding(self):
        known = [decoding.name for decoding in self.lexical.grid]
        if self.ppo.eval_decoding not in known:
            raise ValueError(f"ppo.eval_decoding: '{self.ppo.eval_decoding}' is not in lexical.grid ({', '.join(known)})")
        return self


class Variant(Strict):
    """One way of training that an ablation tries: what differs from the profile, and why it is tried."""

    reason: str
    # Default: the stage of the file.
    stage: str | None = None
    overlay: dict = {}


class Ablation(Strict):
    """Variants of the training, each compared with the reference on the validation cues (a file of notebooks/ablations)."""

    name: str
    stage: str
    reference: str
    # Overlay of every variant, the reference too, such as fewer steps than the profile's.
    common: dict = {}
    # Names of folders.
    variants: dict[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")], Variant]

    @model_validator(mode="after")
    def _reference_is_there(self):
        if self.reference not in self.variants:
            raise ValueError(f"reference '{self.reference}' is none of the variants: {', '.join(self.variants)}")
        return self
