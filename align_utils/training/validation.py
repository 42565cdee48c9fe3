"""The reward on validation cues while a stage trains: checkpoints that count, and when to stop."""

from __future__ import annotations

import json
import math
import shutil
import time
from pathlib import Path

import pandas as pd
import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from peft import PeftModel
from transformers import TrainerCallback
from transformers.trainer_utils import get_last_checkpoint

from align_utils.config.profiles import Config
from align_utils.config.settings import Decoding, Language
from align_utils.lexical.lists import generate_lists
from align_utils.lexical.precision import map_strengths
from align_utils.norms.split import CultureNorms
from align_utils.store.steps import TrainingError, explain, hash_file, write_atomic
from align_utils.training.reward import describe_list, find_common

MARK = "whole.json"
# While one checkpoint is written and sealed, the one before it must still be there.
KEPT = 2


class Seal(TrainerCallback):
    """Writes the hashes of a checkpoint's files beside them once all are written: without that mark it does not count."""

    def on_save(self, args, state, control, **_):
        """transformers calls this on every process after its part of a checkpoint."""
        PartialState().wait_for_everyone()
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            with write_atomic(folder / MARK) as temporary:
                temporary.write_text(json.dumps(_hash_files(folder, temporary.name)), encoding="utf-8")


def find_checkpoint(folder: Path) -> str | None:
    """The last whole checkpoint of a folder, or None; what a kill, a full disk or a deletion left in pieces is removed."""
    if not folder.is_dir():
        return None
    if PartialState().is_main_process:
        for path in folder.glob("checkpoint-*"):
            if not _is_whole(path):
                shutil.rmtree(path)
    PartialState().wait_for_everyone()
    return get_last_checkpoint(str(folder))


def _is_whole(path: Path) -> bool:
    mark = path / MARK
    return mark.is_file() and json.loads(mark.read_text(encoding="utf-8")) == _hash_files(path, MARK)


def _hash_files(folder: Path, mark: str) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in (mark, MARK)]
    return {str(path.relative_to(folder)): hash_file(path) for path in files}


def measure_checkpoints(model) -> int:
    """Bytes that training a model's adapter writes at most: weights and two moments of Adam for each checkpoint, and the result."""
    weights = sum(weights.numel() * 4 for weights in model.parameters() if weights.requires_grad)
    return weights * (3 * (KEPT + 1) + 1)


class Watch(TrainerCallback):
    """Stops the training at the step whose log or weights are no longer finite, before anything of it is saved.

    Parameters
    ----------
    what : str
        What is trained, as the message begins.
    names : dict
        Key in the trainer's log to its name in words.
    setting : str
        What to lower, with its value.
    """

    def __init__(self, what: str, names: dict[str, str], setting: str):
        self.what, self.names, self.setting = what, names, setting

    def on_log(self, args, state, control, logs=None, model=None, **_):
        """transformers and trl call this on every process with each line of the log, before they save."""
        wrong = [f"{name} ({logs[key]})" for key, name in self.names.items() if not math.isfinite(logs.get(key, 0.0))]
        # A gradient that is not finite leaves this step's loss as it was, and a list is decoded from any weights.
        tuned = [weights.detach().isfinite().all() for weights in model.parameters() if weights.requires_grad]
        if not wrong and torch.stack(tuned).all():
            return
        if not state.global_step:
            remedy = "before any training: the base model itself gives it (weights or dtype)"
        else:
            remedy = f"lower {self.setting} in the profile. Whole checkpoints and finished steps are kept"
        found = ", ".join(wrong) or "adapter's weights"
        raise TrainingError(f"{self.what}: not finite at step {state.global_step}: {found}; {remedy}")


def find_decoding(cfg: Config) -> Decoding:
    """The entry of the decoding grid with which validation lists are made (`ppo.eval_decoding`)."""
    return next(way for way in cfg.profile.lexical.grid if way.name == cfg.profile.ppo.eval_decoding)


class ValidationReward(TrainerCallback):
    """Every `every` updates: mean reward of the lists for the validation cues; the best adapter so far is kept in `work`.

    Decoding and reward are those of the profile's `ppo`, whatever the method, so that methods can be compared.

    Parameters
    ----------
    data : dict
        `norms` and `cues` of the culture (`pairs.load_run`); of the cues `valid` alone is read.
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
        self, cfg: Config, policy: PeftModel, tokenizer, language: Language, data: CultureNorms, work: Path, *, adapter: str, every: int,
        patience: int | None = None,
    ):  # fmt: skip
        self.cfg, self.policy, self.tokenizer, self.language = cfg, policy, tokenizer, language
        self.cues, self.work, self.adapter, self.every = data.cues["valid"], work, adapter, every
        self.patience = patience
        self.strengths = map_strengths(data.norms[data.norms["cue"].isin(set(self.cues))], language)
        self.decoding = find_decoding(cfg)
        taught = data.norms[data.norms["cue"].isin(set(data.cues["train"]))]
        self.common = find_common(map_strengths(taught, language), k=cfg.profile.ppo.reward.k)
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
