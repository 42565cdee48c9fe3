"""One adapter to train: what it depends on, how processes share it, what a trainer is told and watched for, whole checkpoints."""

import math
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

import pandas as pd
import torch
from accelerate import PartialState
from peft import PeftModel
from transformers import ProgressCallback, TrainerCallback
from transformers.trainer_utils import get_last_checkpoint
from transformers.utils.notebook import NotebookProgressCallback

from align_utils.config.profiles import Config
from align_utils.config.settings import CriticFree, Language, Ppo, Sft, Taught
from align_utils.config.stages import PREFERENCE, TAUGHT_HALVES
from align_utils.models.adapters import find_adapter
from align_utils.models.load import hash_base, pick_device
from align_utils.norms.split import CultureNorms
from align_utils.store.steps import (
    TrainingError,
    explain,
    hash_file,
    hash_settings,
    make_step,
    name_work,
    progress,
    require,
    require_space,
    write_atomic,
)  # fmt: skip

# Bumped when a stage's result changes for the same settings.
SFT_VERSION, PPO_VERSION, CRITIC_FREE_VERSION = 2, 6, 4
# Lists drawn a validation cue, whose mean reward chooses the checkpoint of a preference method.
VALIDATION_LISTS = 8
# The trained adapter. trl copies that of this name, and of no other, to `ref` before GRPO's first step: the frozen SFT model of the KL.
POLICY = "default"
# What must stay finite, by its key in a trainer's log.
WATCHED = {
    "loss": "loss", "eval_loss": "validation loss", "reward": "reward", "kl": "KL", "entropy": "entropy",
    "objective/scores": "reward", "objective/kl": "KL", "objective/entropy": "entropy", "loss/policy_avg": "policy loss",
    "loss/value_avg": "value loss",
}  # fmt: skip
# While one checkpoint is written and sealed, the one before it must still be there.
KEPT = 2


@dataclass(frozen=True)
class Job:
    """A stage of one model and culture with one seed; `own` are the norms that it is taught (a control's are wrong on purpose)
    or, of the survey's ceiling control, its lesson (`taught.Lesson`)."""

    cfg: Config
    model: str
    culture: str
    stage: str
    own: CultureNorms
    seed: int

    @property
    def name(self) -> str:
        """As messages begin."""
        return f"{self.model}, {self.culture}, {self.stage}"

    @property
    def folder(self) -> Path:
        """Where the finished adapter lies."""
        return find_adapter(self.cfg, self.model, self.culture, self.stage, self.seed)

    @property
    def start(self) -> Path:
        """The SFT adapter from which a preference stage goes on."""
        return find_adapter(self.cfg, self.model, self.culture, "sft", self.seed)

    @property
    def language(self) -> Language:
        """The culture's language."""
        return self.cfg.language_of(self.culture)

    @property
    def cues(self) -> list[str]:
        """Training cues, sorted."""
        return sorted(self.own.cues["train"])

    @property
    def section(self) -> str:
        """The profile's section for this stage."""
        if self.stage in TAUGHT_HALVES:
            return "survey.taught"
        return ("ppo" if self.stage == "ppo" else "critic_free") if self.stage in PREFERENCE else "sft"

    @property
    def settings(self) -> Sft | Ppo | CriticFree | Taught:
        """What that section holds."""
        return attrgetter(self.section)(self.cfg.profile)

    def describe(self) -> dict:
        """Everything the adapter depends on: the key under which it is stored.

        The rows a device takes at once are left out: who lowers them because memory ran out keeps what is finished and goes on
        from the last checkpoint. A preference stage without its SFT adapter raises MissingInput.
        """
        profile, language = self.cfg.profile, self.language
        key = self.own.control | {
            "base": hash_base(self.cfg.models[self.model], seed=profile.seed), "culture": self.culture, "seed": self.seed,
            "lora": profile.lora.model_dump(),
        }  # fmt: skip
        if self.section == "survey.taught":
            return key | {"taught": self.settings.model_dump()}
        key |= {
            "version": SFT_VERSION, "norms": hash_file(self.own.path), "cues": hash_settings(self.own.cues),
            "sft": profile.sft.model_dump(exclude={"device_batch"}, exclude_defaults=True),
            "prompt": [language.list_prompt, language.list_lead, language.separator],
        }  # fmt: skip
        if self.section == "sft":
            return key
        key |= {
            "start": hash_file(require(self.start / "adapter_model.safetensors", made_by="02_sft")),
            "validation": VALIDATION_LISTS, "remove_spaces": language.remove_spaces,
        }  # fmt: skip
        if self.section == "ppo":
            ppo = profile.ppo.model_dump(exclude={"device_batch"}, exclude_none=True)
            return key | {"version": [SFT_VERSION, PPO_VERSION], "ppo": ppo}
        free = profile.critic_free.model_dump(exclude={"methods", "device_batch"}, exclude_defaults=True)
        return key | {
            "version": [SFT_VERSION, CRITIC_FREE_VERSION], "method": self.stage, "critic_free": free,
            "reward": profile.ppo.reward.model_dump(),
        }  # fmt: skip


def share_batch(setting: str, batch: int, device_batch: int) -> tuple[int, int]:
    """Rows a process takes at once, `device_batch` at most, and accumulation steps: all processes together take `batch` rows a step.

    >>> share_batch("sft.batch", 16, 4), share_batch("sft.batch", 12, 8)  # one process
    ((4, 4), (6, 2))
    """
    processes = PartialState().num_processes
    if pick_device()[0].type == "cuda" and processes == 1 and torch.cuda.device_count() > 1:
        # transformers would take a batch on each GPU: other steps than the profile's, stored under its name.
        raise TrainingError(
            f"one process sees {torch.cuda.device_count()} GPUs: start one a GPU (`accelerate launch --config_file "
            "notebooks/settings/launch/ddp.yaml --num_processes N -m align_utils.training --profile P`; the notebooks then find the adapters), "
            "or show it one (CUDA_VISIBLE_DEVICES=0)"
        )
    if batch % processes:
        raise TrainingError(f"{setting} = {batch} cannot be dealt out evenly to {processes} processes")
    share = batch // processes
    size = max(rows for rows in range(1, min(device_batch, share) + 1) if share % rows == 0)
    return size, share // size


@contextmanager
def share_step(folder: Path, settings: dict, *, remedy: str):
    """`store.make_step` for all processes of a launcher: the first one makes and finishes the step, the others wait."""
    state = PartialState()
    if state.is_main_process:
        with make_step(folder, settings, remedy=remedy, kind=TrainingError) as work:
            state.wait_for_everyone()
            yield work
            state.wait_for_everyone()
    else:
        state.wait_for_everyone()
        with explain(f"process {state.process_index}", folder=folder.parent, remedy=remedy, kind=TrainingError):
            yield name_work(folder, settings)
        state.wait_for_everyone()
    state.wait_for_everyone()


def save_adapter(model: PeftModel, folder: Path, *, weights: dict | None = None) -> None:
    """Equal adapters as equal files: peft writes the names of the adapted layers in their order in memory, another in every process."""
    model.peft_config[POLICY].target_modules = sorted(model.peft_config[POLICY].target_modules)
    model.save_pretrained(folder, selected_adapters=[POLICY], safe_serialization=True, state_dict=weights)


def guard(trainer, job: Job) -> None:
    """Watch a trainer's numbers, see that its checkpoints have room, and show its progress as a plain bar.

    transformers' own HTML bars cannot be seen in a headless run.
    """
    trainer.add_callback(Watch(job))
    # Weights and two moments of Adam for each checkpoint, and the result.
    tuned = sum(weights.numel() * 4 for weights in trainer.model.parameters() if weights.requires_grad)
    require_space(job.name, job.folder.parent, tuned * (3 * (KEPT + 1) + 1), kind=TrainingError)
    trainer.remove_callback(NotebookProgressCallback)
    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(_Bar)


class Watch(TrainerCallback):
    """Stops the training at the step whose log or weights are no longer finite, before anything of it is saved."""

    def __init__(self, job: Job):
        self.job = job

    def on_log(self, args, state, control, logs=None, model=None, **_):
        """transformers and trl call this on every process with each line of the log, before they save."""
        wrong = [f"{name} ({logs[key]})" for key, name in WATCHED.items() if not math.isfinite(logs.get(key, 0.0))]
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


class _Bar(TrainerCallback):
    def on_train_begin(self, args, state, control, **_):
        self.bar = progress(
            total=state.max_steps, initial=state.global_step, desc="training", unit="step",
            disable=not state.is_world_process_zero,
        )  # fmt: skip

    def on_step_end(self, args, state, control, **_):
        self.bar.update(state.global_step - self.bar.n)

    def on_train_end(self, args, state, control, **_):
        self.bar.close()


class Seal(TrainerCallback):
    """Writes the hash of a checkpoint's files beside it once all are written: without that mark it does not count."""

    def on_save(self, args, state, control, **_):
        """transformers calls this on every process after its part of a checkpoint."""
        PartialState().wait_for_everyone()
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            with write_atomic(_find_mark(folder)) as temporary:
                temporary.write_text(hash_file(folder), encoding="utf-8")


def _find_mark(checkpoint: Path) -> Path:
    return checkpoint.with_name(f"whole-{checkpoint.name}.txt")


def find_checkpoint(folder: Path) -> str | None:
    """The last whole checkpoint of a folder, or None; what a kill, a full disk or a deletion left in pieces is removed."""
    if not folder.is_dir():
        return None
    if PartialState().is_main_process:
        for path in folder.glob("checkpoint-*"):
            mark = _find_mark(path)
            if not mark.is_file() or mark.read_text(encoding="utf-8") != hash_file(path):
                shutil.rmtree(path)
    PartialState().wait_for_everyone()
    return get_last_checkpoint(str(folder))


def tabulate_log(history: list[dict], names: dict[str, str]) -> pd.DataFrame:
    """A trainer's history (`trainer.state.log_history`) as one row a step: `step` and the columns that `names` gives its keys."""
    entries = pd.DataFrame(history).reindex(columns=["step", *names]).rename(columns=names)
    return entries.dropna(subset=list(names.values()), how="all").groupby("step", as_index=False).last()
