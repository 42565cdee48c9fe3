"""Checkpoints that can be trusted after a kill, and losses that stop the training where they cease to be numbers."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import torch
from accelerate import PartialState
from transformers import TrainerCallback
from transformers.trainer_utils import get_last_checkpoint

from align_utils.artifacts import hash_file, write_atomic
from align_utils.failures import TrainingError

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
