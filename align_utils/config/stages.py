"""Which stages a run has: the untuned model, what is trained, and the controls that the profile names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from align_utils.config.settings import Culture, Profile

if TYPE_CHECKING:
    from align_utils.config.profiles import Config

UNTUNED = ("zero_shot", "few_shot")
# The control that needs no training: another culture's SFT adapter, asked about this culture's cues.
FOREIGN = "control_foreign"
# SFT on the culture's own norms, cut to the cues and lengths of the lists that `control_other_culture` is taught: trained beside it, so
# that the difference between the two is the culture and not the size.
SAME_SIZE = "sft_same_size"
# Positive controls of the survey: can the answers be moved at all? The untuned model asked as a person from the country; and an adapter
# taught the country's shares of half of the items (TAUGHT_HALVES), asked the other half.
PERSONA, SURVEY_TAUGHT = "persona", "survey_taught"
POSITIVE = (PERSONA, SURVEY_TAUGHT)
TAUGHT_HALVES = (f"{SURVEY_TAUGHT}_a", f"{SURVEY_TAUGHT}_b")
# What stages are called in whatever is shown; files hold the codes.
NAMES = {
    "human": "people", "human_top5": "people's five strongest", "human_half": "half of the people", "other_country": "the other country",
    "zero_shot": "before tuning", "few_shot": "before tuning, shown examples", "persona": "before tuning, as a person from there",
    "sft": "after SFT", "ppo": "after PPO", "rloo": "after RLOO", "grpo": "after GRPO", "survey_taught": "taught half of the survey",
    "graph": "counting alone (the graph)", "sft_graph": "after SFT, plus counting", "sft_same_size": "SFT, cut to that control's size",
    "control_shuffled": "control: shuffled cues", "control_other_culture": "control: other culture's norms",
    "control_foreign": "control: other culture's adapter", "frequency": "the commonest words", "chance": "another cue's words",
    "uniform": "even answers", "no_reverse": "no reversed pair in training", "answered": "concepts with single people's answers",
    "precision_at_5_attested": "Precision@5", "precision_at_5_top": "Precision@5, top", "distinct_words": "different words",
}  # fmt: skip
# Stages that go on from the SFT adapter with a reward.
PREFERENCE = ("ppo", "rloo", "grpo")
# What a run may train on the culture's own norms, in the order in which it is told of.
TARGETS = ("sft", *PREFERENCE)


def list_trained(cfg: Config) -> tuple[str, ...]:
    """Stages that have an adapter of their own in this run: SFT, PPO, critic-free methods, and trained controls with what they need."""
    targets = [name for name in TARGETS if name in ("sft", "ppo", *cfg.profile.critic_free.methods)]
    sizes = [SAME_SIZE] if "control_other_culture" in cfg.profile.controls else []
    return (*targets, *(name for name in cfg.profile.controls if name != FOREIGN), *sizes)


def list_seeds(cfg: Config, stage: str) -> list[int]:
    """Seeds with which a stage is trained: all of the run where it is taught the culture's own norms, the profile's own for a control."""
    return cfg.seeds if stage in TARGETS else [cfg.profile.seed]


def list_stages(cfg: Config) -> tuple[str, ...]:
    """Everything that answers the cues: the untuned model in two ways, the trained stages, and the foreign adapter if wanted."""
    return (*UNTUNED, *list_trained(cfg), *(name for name in cfg.profile.controls if name == FOREIGN))


def list_asked(cfg: Config) -> tuple[str, ...]:
    """Trained stages that are asked the survey: SFT, PPO and the trained controls, the one that differs in size alone left out."""
    return tuple(name for name in list_trained(cfg) if name not in (SAME_SIZE, *cfg.profile.critic_free.methods))


def count_lists(profile: Profile, stage: str) -> int:
    """Lists that a stage of PREFERENCE draws: updates times episodes of PPO, updates times cues times samples of the others."""
    ppo, free = profile.ppo, profile.critic_free
    return ppo.updates * ppo.episodes if stage == "ppo" else free.updates * free.cues * free.samples


def name_notebook(stage: str) -> str:
    """The notebook that trains a stage.

    >>> name_notebook("rloo"), name_notebook("control_shuffled"), name_notebook("survey_taught_a")
    ('03_ppo', '02_sft', '05_wvs_survey')
    """
    return "05_wvs_survey" if stage in TAUGHT_HALVES else "03_ppo" if stage in PREFERENCE else "02_sft"


def list_contrasts(cfg: Config) -> list[tuple[str, str]]:
    """Pairs of stages whose difference is tested: each step of training, each critic-free method with PPO, SFT with each control.

    The other culture's norms stand beside the untuned model too, taught in this culture's language (translated) or in their own
    (the foreign adapter): what do they change?
    """
    contrasts = [("sft", "few_shot"), ("ppo", "few_shot"), ("ppo", "sft")]
    methods = [name for name in list_trained(cfg) if name in PREFERENCE and name != "ppo"]
    contrasts += [(name, other) for name in methods for other in ("few_shot", "sft", "ppo")]
    contrasts += [("sft", name) for name in cfg.profile.controls]
    contrasts += [(SAME_SIZE, "control_other_culture")] if SAME_SIZE in list_trained(cfg) else []
    return contrasts + [(name, "few_shot") for name in ("control_other_culture", FOREIGN) if name in cfg.profile.controls]


def find_state(cfg: Config, culture: str, stage: str) -> tuple[str, str] | None:
    """(Culture, stage) of the adapter with which a stage answers; None for the untuned model."""
    if stage in UNTUNED:
        return None
    if stage != FOREIGN:
        return culture, stage
    return find_foreign(cfg.cultures, culture), "sft"


def find_foreign(cultures: Mapping[str, Culture], culture: str) -> str:
    """The first culture of another language than a culture's (a profile whose controls cross languages has one: see `load`)."""
    return next(name for name, other in cultures.items() if other.language != cultures[culture].language)
