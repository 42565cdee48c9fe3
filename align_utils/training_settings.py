"""Settings of training: the adapter's shape, supervised fine-tuning, the reward, PPO and its critic-free siblings."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field, model_validator


class Lora(BaseModel, extra="forbid", frozen=True):
    r: int = Field(gt=0)
    alpha: int = Field(gt=0)
    dropout: float = Field(ge=0, lt=1)


class Sft(BaseModel, extra="forbid", frozen=True):
    steps: int = Field(gt=0)
    batch: int = Field(gt=0)
    device_batch: int = Field(gt=0)
    learning_rate: float = Field(gt=0)
    warmup_share: float = Field(ge=0, lt=1)
    list_length: int = Field(gt=0)
    order: Literal["strength", "sampled"]
    max_tokens: int = Field(gt=0)
    eval_every: int = Field(gt=0)
    # What follows came after the first stored adapters. A stored step's key leaves out fields at their default
    # (`model_dump(exclude_defaults=True)`), so a new field must have one, and these must stay as they are.
    passes: float | None = Field(default=None, gt=0)
    temperature: float = Field(default=1.0, gt=0)
    lists: Literal["fresh", "fixed"] = "fresh"

    @model_validator(mode="after")
    def _whole_accumulation(self):
        if self.batch % self.device_batch:
            raise ValueError(f"batch {self.batch} is not a multiple of device_batch {self.device_batch}")
        return self

    @model_validator(mode="after")
    def _only_what_has_an_effect(self):
        if self.order == "strength" and (self.temperature != 1 or self.lists != "fresh"):
            raise ValueError("temperature and lists concern drawn lists: with order 'strength' leave them at 1.0 and 'fresh'")
        return self


class Reward(BaseModel, extra="forbid", frozen=True):
    """Weights of the reward parts (our reconstruction; see align_utils.lexical.score_reward)."""

    k: int = Field(gt=0)
    precision: float = Field(ge=0, le=1)
    strength: float = Field(ge=0, le=1)


class Ppo(BaseModel, extra="forbid", frozen=True):
    updates: int = Field(gt=0)
    episodes: int = Field(gt=1)
    epochs: int = Field(gt=0)
    minibatches: int = Field(gt=0)
    learning_rate: float = Field(gt=0)
    kl: float = Field(ge=0)
    response_tokens: int = Field(gt=0)
    temperature: float = Field(gt=0)
    eval_every: int = Field(gt=0)
    # Name of the grid's entry (`lexical.grid`) with which the validation lists are made.
    eval_decoding: str
    reward: Reward
    # None here leaves the keys of steps stored before these fields as they were.
    # Episodes a device takes at once (None: all): less memory, the same episodes in an update.
    device_batch: int | None = Field(default=None, gt=0)
    # Measurements on validation cues in a row without a better reward after which the stage stops (None: it never does).
    patience: int | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _one_step_a_pass(self):
        if self.device_batch is None:
            return self
        if self.episodes % self.device_batch:
            raise ValueError(f"episodes {self.episodes} is not a multiple of device_batch {self.device_batch}")
        if self.minibatches > 1:
            # trl counts accumulation over the whole batch: its minibatches would melt into one step.
            raise ValueError("with device_batch leave minibatches at 1: trl would take one step for all of them")
        return self


class CriticFree(BaseModel, extra="forbid", frozen=True):
    """Preference methods without a critic, beside PPO: a list is judged against the other lists for its cue."""

    methods: list[Literal["grpo", "rloo"]] = []
    updates: int = Field(gt=0)
    cues: int = Field(gt=0)
    samples: int = Field(gt=1)
    device_batch: int = Field(gt=0)
    learning_rate: float = Field(gt=0)
    kl: float = Field(gt=0)
    response_tokens: int = Field(gt=0)
    temperature: float = Field(gt=0)
    eval_every: int = Field(gt=0)
    # What an advantage is given to: a whole list, or each of its responses (grpo alone: rloo's loss is that of whole lists).
    credit: Literal["list", "response"] = "list"
    # As ppo's.
    patience: int | None = Field(default=None, gt=0)
