"""The fields of every YAML file of settings (participant file formats have a module of their own)."""

from __future__ import annotations

import unicodedata
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from align_utils.rating_settings import Rating, RatingRules, Script

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
    answer_lead: str
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
    # Name in the paper of a model that the paper tunes; claims are judged on those alone.
    in_paper: str | None = None
    # For tokenizers that ship no pad token of their own.
    pad_token: str | None = None
    licence: str


class Norms(Strict):
    responses: Literal["R1", "R123"]
    valid_pairs: int = Field(gt=0)
    test_pairs: int = Field(gt=0)


class Lora(Strict):
    r: int = Field(gt=0)
    alpha: int = Field(gt=0)
    dropout: float = Field(ge=0, lt=1)


class Sft(Strict):
    steps: int = Field(gt=0)
    batch: int = Field(gt=0)
    device_batch: int = Field(gt=0)
    learning_rate: float = Field(gt=0)
    warmup_share: float = Field(ge=0, lt=1)
    list_length: int = Field(gt=0)
    order: Literal["strength", "sampled"]
    max_tokens: int = Field(gt=0)
    eval_every: int = Field(gt=0)

    @model_validator(mode="after")
    def _whole_accumulation(self):
        if self.batch % self.device_batch:
            raise ValueError(f"batch {self.batch} is not a multiple of device_batch {self.device_batch}")
        return self


class Reward(Strict):
    """Weights of the reward parts (our reconstruction; see align_utils.lexical.score_reward)."""

    k: int = Field(gt=0)
    precision: float = Field(ge=0, le=1)
    strength: float = Field(ge=0, le=1)


class Ppo(Strict):
    updates: int = Field(gt=0)
    episodes: int = Field(gt=1)
    epochs: int = Field(gt=0)
    minibatches: int = Field(gt=0)
    learning_rate: float = Field(gt=0)
    kl: float = Field(ge=0)
    response_tokens: int = Field(gt=0)
    temperature: float = Field(gt=0)
    eval_every: int = Field(gt=0)
    eval_penalty: float = Field(ge=1)
    reward: Reward


class Decoding(Strict):
    """One way of turning the model into a list; the grid is the same for every stage."""

    name: str
    repetition_penalty: float = Field(ge=1)


class Lexical(Strict):
    ks: list[int]
    min_count: int = Field(gt=0)
    matching: Literal["exact", "lemma"]
    few_shot: int = Field(gt=0)
    max_new_tokens: int = Field(gt=0)
    batch: int = Field(gt=0)
    grid: list[Decoding]
    ceiling_splits: int = Field(gt=0)


class Participants(Strict):
    """Simulated participants of notebook 04; `n: 0` switches them off."""

    n: int = Field(ge=0)
    cues: int = Field(gt=0)
    stages: list[str] = Field(min_length=1)
    words: int = Field(ge=1, le=3)
    temperature: float = Field(gt=0)
    max_new_tokens: int = Field(gt=0)
    batch: int = Field(gt=0)


class Survey(Strict):
    items: Literal["core", "all"]
    wording: Literal["ours", "file"]
    personas: list[str]
    batch_tokens: int = Field(gt=0)
    high_tension: int = Field(gt=0)


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
    lexical: Lexical
    participants: Participants
    ratings: RatingRules
    survey: Survey
    stats: Stats
