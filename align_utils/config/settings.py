"""The fields of every YAML file under notebooks/settings: what each may hold and what it is for.

Top down: a profile and its parts, an ablation of it, then what a profile names: cultures, languages, models, and the formats of
participant files. Values and the reasons for them stand in the YAML files.
"""

from __future__ import annotations

import unicodedata
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Count = Annotated[int, Field(gt=0)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
# Punctuation that may surround a response but is not part of it (NFKC has made the Chinese forms narrow by then).
OUTER = " \t\r\n.,;:!?\"'()[]{}<>*-–—_。、“”‘’《》「」"
RESPONSES = ["R1", "R2", "R3"]
# What an unknown cue becomes on reading; a missing response becomes an empty string.
UNKNOWN = "#Unknown"


class ConfigError(ValueError):
    """A configuration file is missing, unreadable or holds a wrong field."""


class Strict(BaseModel):
    """Base of all settings: frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


# A profile and its parts. Keys of stored steps hold most of them (fields at their default are left out of some), so a new field
# needs a default that changes nothing.


class Show(Strict):
    """What runs through all notebooks as the example."""

    # English names of concepts, in order of preference: the first four that are held out in this run are shown.
    concepts: list[str] = []
    # A question of the survey; another one where the run does not ask it.
    item: str = ""


class Needs(Strict):
    """What `make doctor` asks of a machine: memory of its own, and room for results."""

    memory_gb: Positive
    disk_gb: Positive


class Profile(Strict):
    """The settings of one run, after the overlays are merged."""

    name: str
    description: str
    data: Literal["sample", "real"]
    # Watermark of every figure; default a word about the sample where the run reads it.
    note: str = ""
    models: list[str] = Field(min_length=1)
    # Untuned models behind a URL, asked in notebook 05 alone.
    baselines: list[str] = []
    cultures: list[str]
    # Base weights and matrix products on a CPU; adapters, losses and log-probabilities are float32 anyway. A GPU takes its own.
    dtype: Literal["float32", "bfloat16", "auto"] = "float32"
    seed: int
    # More seeds to train and judge beside `seed`.
    seeds: list[int] = []
    controls: list[Literal["control_shuffled", "control_other_culture", "control_foreign"]] = []
    # Minutes on two cores, by the notebook's number.
    budget_minutes: dict[str, float]
    needs: Needs
    # Of a profile that runs on a GPU alone.
    gpu: Gpu | None = None
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
    show: Show = Show()

    @property
    def minutes(self) -> dict[str, float]:
        """Minutes that a notebook is expected to take, by its number: on the profile's GPU, else on two cores; empty where not known."""
        return self.gpu.minutes if self.gpu else self.budget_minutes

    @field_validator("cultures")
    @classmethod
    def _two_cultures(cls, cultures: list[str]) -> list[str]:
        if len(cultures) < 2 or len(set(cultures)) < len(cultures):
            raise ValueError(
                "every notebook compares cultures: name two or more, each once (data/README.md makes the British one out of the US file)"
            )
        return cultures


class Gpu(Strict):
    """What a run needs on a GPU, by the notebook's number; estimates until docs/gpu.md says where it was measured."""

    card: str
    minutes: dict[str, float] = {}
    memory_gb: dict[str, float] = Field(min_length=1)


class Norms(Strict):
    """Which responses the strengths count, and how many concept pairs are kept from training."""

    responses: Literal["R1", "R123"]
    valid_pairs: Count
    test_pairs: Count


class Lora(Strict):
    """Low-rank adapters on all linear layers."""

    r: Count
    alpha: Count
    dropout: float = Field(ge=0, lt=1)


class Sft(Strict):
    """Supervised fine-tuning: how long, how fast, and what lists it teaches."""

    steps: Count
    # Lists in an optimiser step, whatever the number of devices, and lists that a device takes at once.
    batch: Count
    device_batch: Count
    learning_rate: Positive
    warmup_share: float = Field(ge=0, lt=1)
    list_length: Count
    order: Literal["strength", "sampled"]
    max_tokens: Count
    eval_every: Count
    # What follows came after the first stored adapters, whose keys leave out fields at their default: these must stay as they are.
    # So many passes over the training cues in the place of `steps`.
    passes: Positive | None = None
    temperature: Positive = 1.0
    lists: Literal["fresh", "fixed"] = "fresh"

    @model_validator(mode="after")
    def _fits_together(self):
        if self.batch % self.device_batch:
            raise ValueError(f"batch {self.batch} is not a multiple of device_batch {self.device_batch}")
        if self.order == "strength" and (self.temperature != 1 or self.lists != "fresh"):
            raise ValueError("temperature and lists concern drawn lists: with order 'strength' leave them at 1.0 and 'fresh'")
        return self


class Preference(Strict):
    """What PPO and the methods without a critic have in common."""

    updates: Count
    learning_rate: Positive
    # Weight of the divergence from the SFT model.
    kl: float = Field(ge=0)
    response_tokens: Count
    temperature: Positive
    eval_every: Count
    # Measurements on validation cues in a row without a better reward after which the stage stops (None: it never does).
    patience: Count | None = None


class Ppo(Preference):
    """PPO from the SFT adapter."""

    # Lists an update, how many of them are of one cue, and those a device takes at once (None: all; less memory, the same lists).
    episodes: int = Field(gt=1)
    samples: Count
    device_batch: Count | None = None
    epochs: Count
    minibatches: Count
    reward: Reward

    @model_validator(mode="after")
    def _one_step_a_pass(self):
        if self.episodes % self.samples:
            raise ValueError(f"episodes {self.episodes} is not a multiple of samples {self.samples}, the lists of one cue")
        if self.device_batch is None:
            return self
        if self.episodes % self.device_batch:
            raise ValueError(f"episodes {self.episodes} is not a multiple of device_batch {self.device_batch}")
        if self.minibatches > 1:
            # trl counts accumulation over the whole batch: its minibatches would melt into one step.
            raise ValueError("with device_batch leave minibatches at 1: trl would take one step for all of them")
        return self


class Reward(Strict):
    """Weights of the two parts of a list's reward, which reads its first k responses (our reconstruction)."""

    k: Count
    precision: Share
    strength: Share


class CriticFree(Preference):
    """Preference methods without a critic, beside PPO: a list is judged against the other lists for its cue."""

    methods: list[Literal["grpo", "rloo"]] = []
    cues: Count
    # Lists a cue.
    samples: int = Field(gt=1)
    device_batch: Count
    kl: Positive
    # What an advantage is given to: a whole list, or each of its responses (grpo alone: rloo's loss is that of whole lists).
    credit: Literal["list", "response"] = "list"


class Lexical(Strict):
    """How lists are asked for, decoded and judged."""

    ks: list[int]
    # Responses that fewer people gave are no part of the human list.
    min_count: Count
    matching: Literal["exact", "lemma"]
    # Cues with their lists before the cue that the untuned model is asked about.
    few_shot: Count
    max_new_tokens: Count
    batch: Count
    grid: list[Decoding]
    graph: Graph
    # Lists drawn a test cue; 0 switches them off.
    drawn: int = Field(ge=0)
    # Times that people are split in halves, for their own P@K.
    ceiling_splits: Count


class Decoding(Strict):
    """One way of turning the model into a list; the grid is the same for every stage."""

    name: str
    repetition_penalty: float = Field(default=1.0, ge=1)
    # No response is completed that an earlier one, or the cue, was already.
    distinct: bool = False


class Graph(Strict):
    """Grids, judged on validation cues, of the baseline that counts in the training norms."""

    # Weight of a training cue itself among what it leads to, 1: as if people always said it.
    backward: list[Share] = Field(min_length=1)
    # Weight of the graph's shares beside the places of a model's list.
    weight: list[float] = Field(min_length=1)


class Participants(Strict):
    """Simulated participants of notebook 04; `n: 0` switches them off."""

    n: int = Field(ge=0)
    cues: Count
    words: int = Field(ge=1, le=3)
    temperature: Positive
    max_new_tokens: Count
    batch: Count


class RatingRules(Strict):
    """Into how many frequency bands people's responses are put, and how near people a mean rating is at human level."""

    bands: int = Field(gt=1)
    # Share of a scale's length.
    margin: float = Field(gt=0, lt=1)


class Survey(Strict):
    """Which items are asked, in whose wording and orders, how an answer is read, and what the ceiling control is taught."""

    items: Literal["core", "all"]
    wording: Literal["ours", "file"]
    # Label, whole text after the list of options, whole text without a list, and the model's own words.
    readouts: list[Literal["label", "text", "unlisted", "generated"]]
    # Orders of the options: every one (rotations and the reverse), or ascending and descending alone.
    orders: Literal["all", "pair"]
    # Items of what is checked on a sample alone: refusals and generated answers.
    sample_items: Count
    generated_tokens: Count
    batch_tokens: Count
    # Items of the high-tension set where the run has enough.
    high_tension: Count
    taught: Taught

    @field_validator("readouts")
    @classmethod
    def _label_first(cls, readouts: list[str]) -> list[str]:
        if "label" not in readouts:
            raise ValueError("'label' is the read-out that the others are compared with and cannot be left out")
        return readouts


class Taught(Strict):
    """The ceiling control: an adapter taught a country's shares of half of the items. Questions are in an optimiser step all at once."""

    steps: Count
    batch: Count
    learning_rate: Positive


class Stats(Strict):
    """Draws and coverage of every interval."""

    resamples: Count
    level: float = Field(gt=0, lt=1)


class Ablation(Strict):
    """Variants of the training, each compared with the reference on the validation cues (a file of notebooks/settings/ablations)."""

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


class Variant(Strict):
    """One way of training that an ablation tries: what differs from the profile, and why it is tried."""

    reason: str
    # Default: the stage of the file.
    stage: str | None = None
    overlay: dict = {}


# Cultures and their files of norms.


class Culture(Strict):
    """One culture: its language, files, survey country and label."""

    name: str
    label: str
    # The label within a sentence, where it takes an article.
    in_text: str = ""
    language: str
    survey_country: str
    # The country's name in files that have no code for it; default the label.
    survey_name: str = ""
    # Respondents, for drawing aggregated shares anew.
    survey_n: Count
    norms: NormFiles


class NormFiles(Strict):
    """File patterns of a culture's norms, in order of preference (data/README.md says what the files are)."""

    strengths: dict[Literal["R1", "R123"], list[str]]
    trials: list[str] = []
    # Files that people take for the culture's and that are not: pattern to the reason, which is told where no other file is there.
    never: dict[str, str] = {}
    native: Native | None = None
    # Name of a file in notebooks/settings/formats, needed only where a participant file fits several.
    format: str | None = None
    # A list of cues to leave out, such as spelling variants of other cues, applied where the reader gives the file.
    doubles: WordList | None = None


class Native(Strict):
    """Which participants count as native speakers of a culture."""

    column: str
    values: list[str]


class WordList(Strict):
    """A list that the reader may put beside the participant file; without it the step that needs it is skipped and said."""

    file: str
    # Whether the first line names the columns.
    header: bool


# Languages and their ratings.


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
    # What participant files of the language write for a missing response or an unknown cue.
    missing: list[str] = []
    ratings: dict[str, Rating] = {}
    other_script: Script | None = None

    def normalise(self, word: str) -> str:
        """The form in which two words are compared: NFKC, case folded, outer punctuation and extra spaces removed.

        >>> from align_utils import config
        >>> config.load("smoke").languages["en"].normalise(" Ice  Cream. ")
        'ice cream'
        """
        folded = unicodedata.normalize("NFKC", word).casefold().strip(OUTER)
        return ("" if self.remove_spaces else " ").join(folded.split())


class Rating(Strict):
    """One rating of a language: its scale, and the forms it may be found in, in order of preference."""

    low: float
    high: float
    # Whose ratings these are, for who has none yet (`make doctor`).
    published: str = ""
    anchors: Anchors
    sources: list[RatingSource]


class Anchors(Strict):
    """Words of which nobody doubts at which end of the scale they lie: they tell a reversed scale and a wrong column."""

    high: list[str]
    low: list[str]


class RatingSource(Strict):
    """One published form of a rating; `low`, `high` where the form's scale ends are not the rating's, `sheet` in a workbook."""

    files: list[str]
    word: str = "Word"
    value: str
    sheet: str | None = None
    low: float | None = None
    high: float | None = None
    reversed: bool = False


class Script(Strict):
    """Another script of the language: its name, common characters of it alone, and the OpenCC conversion from it."""

    name: str
    marks: str
    convert: str


# Models: those that are loaded and trained, and those that a server answers for.


class ModelSource(Strict):
    """One base model and the way it is loaded."""

    name: str
    loader: Literal["tiny", "gguf", "transformers"]
    source: str
    backend: Literal["transformers", "unsloth"] = "transformers"
    load_in_4bit: bool = False
    # Of a model in 4 bits: the file in notebooks/settings/models of the same model in 16, which `make export` merges adapters into.
    merge_into: str = ""
    # Of the run: the profile's `dtype` takes the place of what a file says.
    dtype: Literal["float32", "bfloat16", "auto"] = "float32"
    # Name in the paper of a model that the paper tunes; claims are judged on those alone.
    in_paper: str | None = None
    # For tokenizers that ship no pad token of their own.
    pad_token: str | None = None
    # What a download needs, checked before it begins; none for a model that comes otherwise.
    disk_gb: Positive | None = None
    licence: str
    # On the hub for those alone who have accepted the licence there and are logged in.
    gated: bool = False

    @model_validator(mode="after")
    def _four_bits_by_unsloth(self):
        if self.load_in_4bit and self.backend != "unsloth":
            raise ValueError(
                "load_in_4bit needs `backend: unsloth`: the transformers backend would load the weights as they are"
            )
        return self


class ServerModel(Strict):
    """One untuned model that an OpenAI-compatible server answers for; nothing of it is loaded or trained here.

    There is no field for a key: it is read from the environment variable that `key_variable` names, never from a file.
    """

    name: str
    loader: Literal["server"]
    # Name under which the server knows the model.
    model: str = Field(min_length=1)
    # Environment variable with the server's address, such as http://localhost:8000/v1.
    url_variable: str = Field(pattern=r"^[A-Z][A-Z0-9_]*$")
    key_variable: str | None = Field(default=None, pattern=r"^[A-Z][A-Z0-9_]*$")
    # How many of the likeliest next tokens to ask for. vLLM gives 20 unless it is started with --max-logprobs.
    top_logprobs: Count = 20
    # More fields of every request, for what one server alone understands (llama.cpp: cache_prompt).
    extra: dict[str, bool | int | float | str] = {}
    concurrency: Count = 16
    # Seconds that an answer may take.
    timeout: Positive = 120
    licence: str


# Formats of participant files, and the steps from raw trials to clean ones.


class Format(Strict):
    """One kind of participant file: how it is recognised and read, its markers, and the steps from raw to clean."""

    name: str
    label: str
    recognised: Recognition
    columns: Columns
    numeric_participant: bool = True
    # Besides the language's own markers: no response, an unknown cue, and marks that earlier steps of the pipeline left.
    missing: list[str] = []
    unknown: list[str] = []
    marks: list[str] = []
    join: Join | None = None
    steps: list[CleaningStep] = []

    @model_validator(mode="after")
    def _newest_needs_numbers(self):
        newest = any(isinstance(step, SelectBest) and step.newest for step in self.steps)
        if newest and not (self.numeric_participant and self.columns.participant):
            raise ValueError("select_best with newest needs a participant column of numbers")
        return self


class Recognition(Strict):
    """How a file is told: all of `has` and none of `lacks` in its header and, where given, a name that fits one pattern."""

    has: list[str] = Field(min_length=1)
    lacks: list[str] = []
    files: list[str] = []


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


class Join(Strict):
    """A second file with one row a participant, read when a column is asked for that the trials do not hold."""

    files: list[str]
    key: str


class ReplaceWords(Strict):
    """Replace whole cues or responses by a list of two columns, original and correction."""

    step: Literal["replace_words"]
    columns: list[Literal["cue", "R1", "R2", "R3"]]
    words: WordList
    # Words of this list stay as they are.
    spare: WordList | None = None
    # Whether a word that is itself a correction stays as it is, so that a corrected file passes unchanged.
    settled: bool = False


class RecodeDoubles(Strict):
    """R2 = R1, then R3 = R2, become missing; a missing R2 before a given R3 takes its place (R1 = R3 is not tested)."""

    step: Literal["recode_doubles"]


class SplitJoined(Strict):
    """Answers written into one field are split by a list (original, comma-separated parts); the row keeps its first three."""

    step: Literal["split_joined"]
    words: WordList


class MarkLong(Strict):
    """Long responses become a mark, by the list; without the list those of more than `over` characters."""

    step: Literal["mark_long"]
    words: WordList
    over: Count
    mark: str


class MarkRepeats(Strict):
    """A response given twice to one cue by one participant becomes a mark, all but the first."""

    step: Literal["mark_repeats"]
    mark: str


class FilterParticipants(Strict):
    """Remove participants that fit one of the rules."""

    step: Literal["filter_participants"]
    rules: list[Rule] = Field(min_length=1)


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
    native: list[str] = []
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


class SelectBest(Strict):
    """Keep the best trials of every cue: native points, plus participant / max(participant), plus real responses."""

    step: Literal["select_best"]
    per_cue: Count
    native: dict[str, float]
    newest: bool = False
    answered: bool = False
    ties: Literal["keep", "first"]
    drop_smaller: bool = False


class DropCues(Strict):
    """Leave out the cues of a list of one column."""

    step: Literal["drop_cues"]
    words: WordList


CleaningStep = Annotated[
    RecodeDoubles | ReplaceWords | SplitJoined | MarkLong | MarkRepeats | FilterParticipants | SelectBest | DropCues,
    Field(discriminator="step"),
]
