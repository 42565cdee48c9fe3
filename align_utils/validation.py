"""Reward on the validation cues while a preference stage trains: it chooses the checkpoint, may end the stage, and times the updates."""

from __future__ import annotations

import time
from pathlib import Path

import pandas as pd
import torch
from accelerate.utils import broadcast_object_list
from peft import PeftModel
from transformers import TrainerCallback

from align_utils import lexical
from align_utils.config import Config, Decoding, Language
from align_utils.failures import TrainingError, explain
from align_utils.generation import generate_lists
from align_utils.rewards import describe_list, find_common


def find_decoding(cfg: Config) -> Decoding:
    """The entry of the decoding grid with which validation lists are made (`ppo.eval_decoding`)."""
    return next(way for way in cfg.profile.lexical.grid if way.name == cfg.profile.ppo.eval_decoding)


class ValidationReward(TrainerCallback):
    """Every `every` updates: mean reward of the lists for the validation cues; the best adapter so far is kept in `work`.

    Decoding and reward are those of the profile's `ppo`, whatever the method, so that methods can be compared.

    Parameters
    ----------
    data : dict
        `norms` and `cues` of the culture (`pairs.load_stage`); of the cues `valid` alone is read.
    work : Path
        Where `adapter_model.safetensors` goes.
    adapter : str
        Name of the adapter that is trained.
    every : int
        Updates between two measurements; the last update is always measured.
    patience : int or None
        Measurements in a row without a better reward after which the trainer is told to stop; None: never.
    """

    def __init__(
        self, cfg: Config, policy: PeftModel, tokenizer, language: Language, data: dict, work: Path, *, adapter: str, every: int,
        patience: int | None = None,
    ):  # fmt: skip
        self.cfg, self.policy, self.tokenizer, self.language = cfg, policy, tokenizer, language
        self.cues, self.work, self.adapter, self.every = data["cues"]["valid"], work, adapter, every
        self.patience = patience
        self.strengths = lexical.map_strengths(data["norms"][data["norms"]["cue"].isin(set(self.cues))], language)
        self.decoding = find_decoding(cfg)
        taught = data["norms"][data["norms"]["cue"].isin(set(data["cues"]["train"]))]
        self.common = find_common(lexical.map_strengths(taught, language), k=cfg.profile.ppo.reward.k)
        self.history: list[dict] = []
        self.times: list[dict] = []
        self.best: int | None = None
        self.started = time.perf_counter()

    def measure(self, update: int) -> float:
        """Mean reward on the validation cues, in [0, 1]; stored under the update's number."""
        was_training = self.policy.training
        self.policy.eval()
        with explain("validation", folder=self.work, remedy="lower lexical.batch in the profile", kind=TrainingError):
            lists = generate_lists(
                self.cfg, self.policy, self.tokenizer, self.language, self.cues, [self.decoding], label="validation"
            )
        self.policy.train(was_training)
        settings = self.cfg.profile.ppo.reward
        parts = pd.DataFrame(
            [
                describe_list(row.cue, row.text, row.responses, self.strengths[row.cue], self.common, self.language, settings)
                for row in lists.itertuples()
            ]
        ).mean()
        reward = settings.precision * parts["precision"] + settings.strength * parts["strength"]
        self.history.append(
            {
                "update": update,
                "reward_valid": reward,
                **parts.add_suffix("_valid"),
                "variety_valid": self._measure_variety(lists),
            }
        )
        return reward

    def on_train_begin(self, args, state, control, **kwargs):
        """The SFT model's own reward, as update 0, and the clock of the first update.

        Not before: a trainer may put autocast around the policy (float16 cards), and all measurements are to be made alike.
        """
        with torch.random.fork_rng():
            self.measure(0)
        self.started = time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs):
        """trl calls this after each update."""
        update = state.global_step
        self.times.append({"update": update, "seconds": round(time.perf_counter() - self.started, 3)})
        if update % self.every == 0 or update == state.max_steps:
            self._judge(update, save=state.is_world_process_zero)
            since = sum(row["update"] > self.best for row in self.history)
            if self.patience is not None and since >= self.patience:
                control.should_training_stop = True
        self.started = time.perf_counter()

    def _judge(self, update: int, *, save: bool) -> None:
        tuned = [row["reward_valid"] for row in self.history if row["update"] > 0]
        # The random stream is left as it was: validation must not change the training that follows.
        with torch.random.fork_rng():
            # Every process measures; the first one's word counts, so that all stop at the same update.
            (reward,) = broadcast_object_list([self.measure(update)])
            self.history[-1]["reward_valid"] = reward
        if tuned and reward <= max(tuned):
            return
        self.best = update
        if not save:
            return
        self.policy.save_pretrained(self.work, selected_adapters=[self.adapter], safe_serialization=True)
        # peft puts every adapter but the one named `default` into a folder of its name.
        folder = self.work / self.adapter
        if folder.is_dir():
            for path in folder.iterdir():
                path.replace(self.work / path.name)
            folder.rmdir()

    def _measure_variety(self, lists: pd.DataFrame) -> float:
        # Distinct responses over all cues, a share of all responses: it falls where every cue gets the same words.
        words = [self.language.normalise(word) for words in lists["responses"] for word in words]
        return len(set(words)) / len(words) if words else float("nan")

    def tabulate(self) -> pd.DataFrame:
        """`update, reward_valid`, PARTS and `variety` of the validation lists, `chosen`; one row a measurement."""
        frame = pd.DataFrame(self.history)
        return frame.assign(chosen=frame["update"] == self.best)

    def tabulate_times(self) -> pd.DataFrame:
        """`update, seconds` of each update, validation left out; a file of its own, since it is never the same twice."""
        return pd.DataFrame(self.times, columns=["update", "seconds"])
