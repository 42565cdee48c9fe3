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

from align_utils.lexical.lists import generate_lists
from align_utils.lexical.precision import map_strengths
from align_utils.models.adapters import show_progress
from align_utils.store.steps import TrainingError, explain, hash_file, require_space, write_atomic
from align_utils.training.job import Job
from align_utils.training.reward import ListReward

# The trained adapter. trl copies that of this name, and of no other, to `ref` before GRPO's first step: the frozen SFT model of the KL.
POLICY = "default"
# What must stay finite, by its key in the trainer's log.
WATCHED = {
    "sft": {"loss": "loss", "eval_loss": "validation loss"},
    "ppo": {
        "objective/scores": "reward", "objective/kl": "KL", "objective/entropy": "entropy", "loss/policy_avg": "policy loss",
        "loss/value_avg": "value loss",
    },
    "critic_free": {"reward": "reward", "kl": "KL", "entropy": "entropy", "loss": "loss"},
}  # fmt: skip

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


class Watch(TrainerCallback):
    """Stops the training at the step whose log or weights are no longer finite, before anything of it is saved."""

    def __init__(self, job: Job):
        self.job = job

    def on_log(self, args, state, control, logs=None, model=None, **_):
        """transformers and trl call this on every process with each line of the log, before they save."""
        names = WATCHED[self.job.section]
        wrong = [f"{name} ({logs[key]})" for key, name in names.items() if not math.isfinite(logs.get(key, 0.0))]
        # A gradient that is not finite leaves this step's loss as it was, and a list is decoded from any weights.
        tuned = [weights.detach().isfinite().all() for weights in model.parameters() if weights.requires_grad]
        if not wrong and torch.stack(tuned).all():
            return
        remedy = "before any training: the base model itself gives it (weights or dtype)"
        if state.global_step:
            setting = f"{self.job.section}.learning_rate (now {self.job.settings.learning_rate:g})"
            remedy = f"lower {setting} in the profile. Whole checkpoints and finished steps are kept"
        found = ", ".join(wrong) or "adapter's weights"
        raise TrainingError(f"{self.job.name}: not finite at step {state.global_step}: {found}; {remedy}")


def guard(trainer, job: Job) -> None:
    """Watch a trainer's numbers, see that its checkpoints have room, and show its progress as a plain bar."""
    trainer.add_callback(Watch(job))
    # Weights and two moments of Adam for each checkpoint, and the result.
    tuned = sum(weights.numel() * 4 for weights in trainer.model.parameters() if weights.requires_grad)
    require_space(job.name, job.folder.parent, tuned * (3 * (KEPT + 1) + 1), kind=TrainingError)
    show_progress(trainer)


class ValidationReward(TrainerCallback):
    """Every `eval_every` updates: mean reward of the lists for the validation cues; the best adapter so far is kept in `work`.

    Decoding and reward are those of the profile's `ppo`, whatever the method, so that methods can be compared. With `patience` the
    trainer is told to stop after so many measurements in a row without a better reward. Of the cues `train` and `valid` are read.
    """

    def __init__(self, job: Job, policy: PeftModel, tokenizer, work: Path):
        self.job, self.policy, self.tokenizer, self.work = job, policy, tokenizer, work
        self.cues = job.own.cues["valid"]
        strengths, taught = (
            map_strengths(job.own.norms[job.own.norms["cue"].isin(set(cues))], job.language) for cues in (self.cues, job.cues)
        )
        self.reward = ListReward(strengths, job.language, job.cfg.profile.ppo.reward, taught=taught)
        self.history: list[dict] = []
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
            lists = generate_lists(
                job.cfg, self.policy, self.tokenizer, job.language, self.cues, [job.decoding], label="validation"
            )
        self.policy.train(was_training)
        described = [self.reward.describe(row.cue, row.text, row.responses) for row in lists.itertuples()]
        parts, settings = pd.DataFrame(described).mean(), self.reward.settings
        reward = settings.precision * parts["precision"] + settings.strength * parts["strength"]
        # Distinct responses over all cues, a share of all responses: it falls where every cue gets the same words.
        words = [job.language.normalise(word) for words in lists["responses"] for word in words]
        variety = len(set(words)) / len(words) if words else math.nan
        shown = {"update": update, "reward_valid": reward, **parts.add_suffix("_valid"), "variety_valid": variety}
        self.history.append(shown)
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
                self.policy.save_pretrained(self.work, selected_adapters=[POLICY], safe_serialization=True)

    def tabulate(self) -> pd.DataFrame:
        """`update, reward_valid`, PARTS and `variety` of the validation lists, `chosen`; one row a measurement."""
        frame = pd.DataFrame(self.history)
        return frame.assign(chosen=frame["update"] == self.best)

    def tabulate_times(self) -> pd.DataFrame:
        """`update, seconds` of each update, validation left out; a file of its own, since it is never the same twice."""
        return pd.DataFrame(self.times, columns=["update", "seconds"])
