"""The reward of a list, the same for every preference method, the signs that it is gamed, and its mean on validation cues in training."""

from __future__ import annotations

import itertools
import math
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
from accelerate.utils import broadcast_object_list
from peft import PeftModel
from transformers import TrainerCallback

from align_utils.config.settings import Language, Reward
from align_utils.lexical.drawn import sample_lists
from align_utils.lexical.precision import map_strengths, precision_at_k
from align_utils.models.prompts import build_list_prompt, parse_list, split_parts
from align_utils.store.steps import TrainingError, explain
from align_utils.training.job import VALIDATION_LISTS, Job, save_adapter

# What a list's reward is made of, and where a gamed one shows: short lists, words that fit everything.
PARTS = ("precision", "strength", "length", "duplicates", "copies", "listed", "frequent")


class ListReward:
    """The reward of generated lists; what the rewards were made of is kept for the log (`PARTS`).

    `strengths` maps a cue to its responses' strengths (`lexical.map_strengths`); the `frequent` responses are those of `taught`,
    by default of the same cues.
    """

    def __init__(self, strengths: dict, language: Language, settings: Reward, *, taught: dict | None = None):
        self.strengths, self.language, self.settings = strengths, language, settings
        totals: Counter[str] = Counter()
        for table in (strengths if taught is None else taught).values():
            totals.update(table)
        # The frequency baseline's answer to everything.
        self.common = set(sorted(totals, key=lambda word: (-totals[word], word))[: settings.k])
        self.scored: list[dict] = []

    def score(self, cue: str, text: str) -> float:
        """Reward of one generated text, in [0, 1]: parsed, then `score_reward`; noted for the log."""
        self.scored.append(self.describe(cue, text))
        return self.rate(cue, text)

    def score_all(self, completions: Sequence[str], cue: Sequence[str], **_) -> list[float]:
        """`score` as trl's critic-free trainers ask for it: by their columns."""
        return [self.score(*pair) for pair in zip(cue, completions, strict=True)]

    def rate(self, cue: str, text: str) -> float:
        """As `score`, and nothing is noted: for parts of a text."""
        words = parse_list(self.language, text, cue=cue)
        reward = score_reward(words, self.strengths[cue], self.language, self.settings)
        if not math.isfinite(reward):
            there = f"the reward of {words} for the cue '{cue}' is {reward}"
            raise TrainingError(f"{there}: its strengths in the norms are not numbers")
        return reward

    def describe(self, cue: str, text: str) -> dict[str, float]:
        """PARTS of one list: `precision, strength` (`split_reward`), `length` (distinct responses), `duplicates` and `copies`
        (shares of the parts that repeat a response, or the cue), `listed` (1 where the text is a list of two parts or more),
        `frequent` (share of the responses that are common to everything); shares of an empty list are NaN."""
        normalise, parts, words = self.language.normalise, split_parts(text), parse_list(self.language, text, cue=cue)
        precision, strength = split_reward(words, self.strengths[cue], self.language, k=self.settings.k)
        copies = sum(normalise(part) == normalise(cue) for part in parts)
        return {
            "precision": precision, "strength": strength, "length": len(words),
            "duplicates": (len(parts) - copies - len(words)) / len(parts) if parts else math.nan,
            "copies": copies / len(parts) if parts else math.nan, "listed": float(len(parts) > 1),
            "frequent": sum(normalise(word) in self.common for word in words) / len(words) if words else math.nan,
        }  # fmt: skip

    def tabulate_parts(self, lists: int) -> pd.DataFrame:
        """`update` (from 1) and the mean of each of PARTS over the `lists` that this process scored in it."""
        frame = pd.DataFrame(self.scored, columns=PARTS)
        return frame.groupby(frame.index // lists + 1).mean().rename_axis("update").reset_index()


def measure_gains(reward: ListReward, tokenizer, boundary: int, cue: str, tokens: list[int]) -> tuple[list[float], list[int]]:
    """What each response adds to the reward of its list, and the place after its last token (a separator belongs to what it ends).

    The gains sum to the list's reward. A repetition or a copy of the cue adds nothing. `boundary`: `decode.find_boundary`.
    """
    ends = [place + 1 for place, token in enumerate(tokens) if token == boundary]
    if not ends or ends[-1] < len(tokens):
        ends.append(len(tokens))
    texts = tokenizer.batch_decode([tokens[:end] for end in ends], skip_special_tokens=True)
    rewards = [0.0, *(reward.rate(cue, text) for text in texts)]
    return [after - before for before, after in itertools.pairwise(rewards)], ends


class ValidationReward(TrainerCallback):
    """Every `eval_every` updates: mean reward of VALIDATION_LISTS lists drawn a validation cue; the best adapter so far is kept in `work`.

    A reward works on what a model says when it draws, so that greedy lists would not show what it does. Every measurement draws with the
    same random numbers, and the reward is that of the profile's `ppo` whatever the method: checkpoints and methods can be compared. With
    `patience` the trainer is told to stop after so many measurements in a row without a better reward. Of the cues `train` and `valid` are read.
    """

    def __init__(self, job: Job, policy: PeftModel, tokenizer, work: Path):
        self.job, self.policy, self.tokenizer, self.work = job, policy, tokenizer, work
        self.cues = job.own.cues["valid"]
        strengths, taught = (
            map_strengths(job.own.norms[job.own.norms["cue"].isin(set(cues))], job.language) for cues in (self.cues, job.cues)
        )
        self.reward = ListReward(strengths, job.language, job.cfg.profile.ppo.reward, taught=taught)
        # `update, reward_valid`, PARTS and `variety` of the lists of each measurement; seconds of each update without them.
        self.history: list[dict] = []
        # Of each measurement PARTS, `cue, update`, one row a list.
        self.drawn: dict[int, pd.DataFrame] = {}
        self.times: list[dict] = []
        self.best: int | None = None
        self.started = time.perf_counter()

    def measure(self, update: int) -> float:
        """Mean reward on the validation cues, in [0, 1]; stored under the update's number."""
        job, was_training = self.job, self.policy.training
        self.policy.eval()
        # The random stream is left as it was: validation must not change the training that follows.
        with (
            torch.random.fork_rng(),
            explain("validation", folder=self.work, remedy="lower lexical.batch in the profile", kind=TrainingError),
        ):
            lists = sample_lists(
                self.policy, self.tokenizer, job.language, self.cues, [build_list_prompt(job.language, cue) for cue in self.cues],
                n=VALIDATION_LISTS, words=self.reward.settings.k, temperature=1.0, max_new_tokens=job.settings.response_tokens,
                batch=job.cfg.profile.lexical.batch, seed=job.seed, label="validation",
            )  # fmt: skip
        self.policy.train(was_training)
        described = pd.DataFrame(map(self.reward.describe, lists["cue"], lists["text"]))
        parts, settings = described.mean(), self.reward.settings
        self.drawn[update] = described.assign(cue=list(lists["cue"]), update=update)
        reward = settings.precision * parts["precision"] + settings.strength * parts["strength"]
        # Distinct responses over all cues, a share of all responses: it falls where every cue gets the same words.
        words = [job.language.normalise(word) for words in lists["responses"] for word in words]
        variety = len(set(words)) / len(words) if words else math.nan
        self.history.append({"update": update, "reward_valid": reward, **parts.add_suffix("_valid"), "variety_valid": variety})
        return reward

    def on_train_begin(self, args, state, control, **kwargs):
        """The SFT model's own reward, as update 0, and the clock of the first update.

        Not before: a trainer may put autocast around the policy (float16 cards), and all measurements are to be made alike.
        """
        self.measure(0)
        self.started = time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs):
        """trl calls this after each update."""
        update, settings = state.global_step, self.job.settings
        self.times.append({"update": update, "seconds": round(time.perf_counter() - self.started, 3)})
        if update % settings.eval_every == 0 or update == state.max_steps:
            self._judge(update, save=state.is_world_process_zero)
            since = sum(row["update"] > self.best for row in self.history)
            control.should_training_stop |= settings.patience is not None and since >= settings.patience
        self.started = time.perf_counter()

    def _judge(self, update: int, *, save: bool) -> None:
        best = max((row["reward_valid"] for row in self.history if row["update"] > 0), default=-math.inf)
        # Every process measures; the first one's word counts, so that all stop at the same update.
        (reward,) = broadcast_object_list([self.measure(update)])
        self.history[-1]["reward_valid"] = reward
        if reward > best:
            self.best = update
            if save:
                save_adapter(self.policy, self.work)


def score_reward(responses: Sequence[str], human: dict[str, float], language: Language, reward: Reward) -> float:
    """Reward of one generated list, in [0, 1]: does it hold what native speakers answer, and what they answer most?

    `precision * P@k + strength * (sum of strengths of the hits / largest sum that k responses could reach)`, over the first k distinct
    responses. Duplicates, copies of the cue and what is no list were dropped by `prompts.parse_list` before, so they earn nothing.
    `human`: normalised response to strength, for this cue (training or validation cues only).

    >>> from align_utils import config
    >>> from align_utils.config import settings
    >>> en = config.load("smoke").languages["en"]
    >>> parts = settings.Reward(k=2, precision=0.5, strength=0.5)
    >>> score_reward(["cat", "moon"], {"cat": 0.3, "bone": 0.1}, en, parts)
    0.625
    """
    precision, strength = split_reward(responses, human, language, k=reward.k)
    return reward.precision * precision + reward.strength * strength


def split_reward(responses: Sequence[str], human: dict[str, float], language: Language, *, k: int) -> tuple[float, float]:
    """The two parts of `score_reward`, each in [0, 1]: P@k, and the strength of the hits over the most that k could reach."""
    forms = list(dict.fromkeys(language.normalise(word) for word in responses))[:k]
    reachable = sum(sorted(human.values(), reverse=True)[:k])
    weight = sum(human.get(form, 0.0) for form in forms) / reachable if reachable else 0.0
    return precision_at_k(forms, list(human), k), weight
