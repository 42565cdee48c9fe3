"""LoRA adapters: where they lie, how they are attached, trained in several processes and kept."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import PartialState
from peft import LoraConfig, PeftModel
from transformers import ProgressCallback, TrainerCallback

from align_utils.config.profiles import Config
from align_utils.config.stages import list_trained, name_notebook
from align_utils.models.load import attach_adapter, check_adapters, hash_base, load_base, pick_device, use_adapter
from align_utils.store.steps import TrainingError, explain, find_step, hash_file, make_step, name_work, progress, require


def find_adapter(cfg: Config, model: str, culture: str, stage: str, seed: int | None = None) -> Path:
    """Folder of an adapter of this run: `runs/<profile>/adapters/<model>/<culture>/<stage>/seed-<seed>`."""
    return cfg.runs / "adapters" / model / culture / stage / f"seed-{cfg.profile.seed if seed is None else seed}"


def configure_lora(cfg: Config) -> LoraConfig:
    """LoRA on all linear layers with the profile's rank, scale and dropout."""
    lora = cfg.profile.lora
    return LoraConfig(
        r=lora.r, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules="all-linear", task_type="CAUSAL_LM"
    )


def widen_adapter(trainer) -> None:
    """Make the adapter of a 4-bit model float32.

    trl makes it bfloat16. Its 8 bits lose the small steps at the end of a training (at a rate that has fallen to 1e-5 most of them),
    and where training is in float16 (a T4) the gradient scaler refuses such gradients. Other adapters are left as trl made them:
    float32, or under ZeRO-3, which cannot gather two types, the model's own type.
    """
    if not getattr(trainer.model, "is_loaded_in_4bit", False):
        return
    for weights in trainer.model.parameters():
        if weights.requires_grad:
            weights.data = weights.data.float()


@contextmanager
def scale_gradients():
    """While a trainer of a preference stage is made: where the card's type is float16 (a T4), accelerate is told to scale losses.

    Unscaled, small gradients of a 16-bit model underflow to 0 on their way to the adapter. trl's PPO takes no setting for it, and
    the other two are told in the same way, so that they differ in nothing. accelerate reads the variable when a trainer is made; its
    launcher always sets it, to `no` where the launch file names nothing else.
    """
    name = "ACCELERATE_MIXED_PRECISION"
    given = os.environ.get(name)
    if pick_device()[1] != torch.float16 or (given or "no") != "no":
        yield
        return
    os.environ[name] = "fp16"
    try:
        yield
    finally:
        if given is None:
            del os.environ[name]
        else:
            os.environ[name] = given


@contextmanager
def keep_adapter(model: PeftModel):
    """An adapter that is handed to a trainer inside the block stays as it was loaded, float32.

    trl's GRPO and RLOO round that of a quantised model to bfloat16 on any card, after its copy for the KL was made. They scale
    no gradients, so nothing refuses it; but the policy would no longer be the SFT model, the optimiser's small steps would be
    lost in 8 bits, and a card without bfloat16 emulates it. trl's PPO rounds only an adapter that it has made itself.
    """
    loaded = {name: weights.data for name, weights in model.named_parameters() if weights.requires_grad}
    yield
    for name, weights in model.named_parameters():
        if name in loaded:
            weights.data = loaded[name].to(weights.device)


def share_batch(setting: str, batch: int, device_batch: int) -> tuple[int, int]:
    """Rows a process takes at once, `device_batch` at most, and accumulation steps: all processes together take `batch` rows a step.

    Raises
    ------
    TrainingError
        `batch` cannot be dealt out evenly to the processes of the launcher, or one process sees several GPUs.

    Examples
    --------
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


def refuse_shards(stage: str) -> None:
    """Stop a preference stage under FSDP or DeepSpeed: it generates from whole models, and its checkpoints are one process's own."""
    if any(os.environ.get(name, "").lower() in ("1", "true") for name in ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED")):
        raise TrainingError(
            f"{stage} draws lists from whole models and cannot shard their weights: launch this stage with notebooks/settings/launch/ddp.yaml "
            "(`--stage`); sft and the controls run with fsdp.yaml and zero3.yaml"
        )


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


def show_progress(trainer) -> None:
    """A plain progress bar instead of the trainer's own: transformers' HTML bars cannot be seen in a headless run."""
    from transformers.utils.notebook import NotebookProgressCallback

    trainer.remove_callback(NotebookProgressCallback)
    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(_Bar)


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


def load_states(cfg: Config, name: str, seed: int | None = None):
    """A base model with every adapter that one seed gave (default the profile's), its tokenizer, and (culture, stage) -> adapter's name.

    Raises MissingInput where an adapter has not been trained, ModelError where one changes nothing.
    """
    folders = {
        (culture, stage): require(
            find_adapter(cfg, name, culture, stage, seed) / "step.json", made_by=name_notebook(stage)
        ).parent
        for culture in cfg.cultures
        for stage in list_trained(cfg)
    }
    model, tokenizer = load_base(cfg.models[name], seed=cfg.profile.seed)
    for (culture, stage), folder in folders.items():
        model = attach_adapter(model, folder, f"{culture}_{stage}")
    names = {key: f"{key[0]}_{key[1]}" for key in folders}
    check_adapters(model.eval(), tokenizer, {names[key]: folder for key, folder in folders.items()})
    return model, tokenizer, names


@dataclass(frozen=True)
class Step:
    """A costly step of one answerer: its folder, all that its result depends on, and who answers (culture, stage; None: the bare model)."""

    folder: Path
    settings: dict
    state: tuple[str, str] | None


def describe_step(
    cfg: Config,
    model: str,
    folder: str,
    state: tuple[str, str] | None,
    /,
    *,
    version: int | list[int],
    adapter_seed: int | None = None,
    **settings,
) -> Step:
    """The step `runs/<profile>/steps/<folder>`: its key is of the code's version, the base model, the answerer's weights and `settings`."""
    weights = find_adapter(cfg, model, *state, adapter_seed) / "adapter_model.safetensors" if state else None
    common = {
        "version": version, "base": hash_base(cfg.models[model], seed=cfg.profile.seed),
        "adapter": hash_file(weights) if weights and weights.is_file() else None,
    }  # fmt: skip
    return Step(cfg.runs / "steps" / folder, common | settings, state)


def complete_steps(
    cfg: Config,
    name: str,
    steps: Mapping[Hashable, Step],
    make: Callable,
    *,
    seed: int | None = None,
    desc: str,
    unit: str,
    remedy: str,
) -> None:
    """Make the steps of one model that are not stored yet; the model is loaded once, and only if there are any.

    `make(key, model, tokenizer, work)` writes a step's files into the folder `work`, the model answering with the step's adapter; `desc`
    and `unit` are the bar's, `remedy` helps where memory or disk run out.
    """
    unfinished = [key for key, step in steps.items() if not find_step(step.folder, step.settings)]
    if not unfinished:
        return
    model, tokenizer, adapters = load_states(cfg, name, seed)
    for key in progress(unfinished, desc=desc, unit=unit):
        step = steps[key]
        with make_step(step.folder, step.settings, remedy=remedy) as work, use_adapter(model, adapters.get(step.state)):
            make(key, model, tokenizer, work)
