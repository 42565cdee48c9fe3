"""Supervised fine-tuning: a LoRA adapter learns to continue a cue with what native speakers answer; one stored step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
from accelerate import PartialState
from datasets import Dataset
from transformers import set_seed
from trl import SFTConfig

from align_utils.config.profiles import Config
from align_utils.config.settings import Language, Sft
from align_utils.models.adapters import configure_lora, find_adapter, share_batch, share_step, show_progress, widen_adapter
from align_utils.models.load import hash_base, load_base, pick_device
from align_utils.models.prompts import build_list_prompt, draw_lists, format_list
from align_utils.norms.split import CultureNorms
from align_utils.store.steps import (
    NOTE,
    TrainingError,
    find_step,
    hash_file,
    hash_settings,
    name_work,
    require_space,
    save_frame,
)
from align_utils.training.loss import pick_trainer
from align_utils.training.tables import tabulate_log
from align_utils.training.validation import KEPT, Seal, Watch, find_checkpoint, measure_checkpoints

# Bumped when this stage's result changes for the same settings.
SFT_VERSION = 2
# What must stay finite, by its key in the trainer's log.
LOGGED = {"loss": "loss", "eval_loss": "validation loss"}


def build_examples(
    norms: pd.DataFrame,
    cues: Sequence[str],
    language: Language,
    *,
    rows: int,
    length: int,
    order: str,
    seed: int,
    temperature: float = 1.0,
    lists: str = "fresh",
) -> list[dict[str, str]]:
    """Prompt and completion of `rows` training examples: passes over the cues, shuffled anew in each.

    Parameters
    ----------
    rows : int
    length, order, seed, temperature
        See `prompts.draw_lists`.
    lists : {'fresh', 'fixed'}
        Drawn afresh in each pass, or once and the same in every pass.

    Returns
    -------
    list of dict
        `prompt`, `completion`; the separating space belongs to the completion.
    """
    examples: list[dict[str, str]] = []
    words: dict[str, list[str]] = {}
    cues, turn = sorted(cues), 0
    while len(examples) < rows:
        shuffled = pd.Series(cues).sample(frac=1, random_state=seed + turn).tolist()
        if turn == 0 or lists == "fresh":
            drawn = draw_lists(norms, shuffled, length=length, order=order, seed=seed + turn, temperature=temperature)
            words = dict(zip(shuffled, drawn, strict=True))
        examples += [
            {"prompt": build_list_prompt(language, cue), "completion": format_list(language, words[cue])} for cue in shuffled
        ]
        turn += 1
    return examples[:rows]


def plan_steps(sft: Sft, cues: int) -> int:
    """Optimiser steps for so many training cues: `sft.steps`, or, where `sft.passes` is set, as many as make those passes."""
    return sft.steps if sft.passes is None else math.ceil(sft.passes * cues / sft.batch)


def count_passes(sft: Sft, cues: int) -> float:
    """How often training goes over its cues: steps * batch / cues."""
    return plan_steps(sft, cues) * sft.batch / cues


def train_sft(
    cfg: Config, model_name: str, culture: str, data: CultureNorms, *, stage: str = "sft", seed: int | None = None
) -> Path:
    """Fine-tune a LoRA adapter on one culture's training cues (trl SFTTrainer, loss on the completion only).

    Under a launcher (accelerate, torchrun) every process calls it; the global batch stays that of the profile.

    Parameters
    ----------
    data : dict
        `norms` (DataFrame), `cues` (dict from `pairs.split_cues`), `path` (file of the norms); for a control what
        `controls.build_control` returns.
    stage : str
        `sft`, or the name of a control.
    seed : int, optional
        Default the profile's.

    Returns
    -------
    Path
        Adapter folder with `log.csv` (`step, loss, eval_loss`; nats per token). A finished step of the same settings is
        returned as it is; an interrupted one goes on from its last whole checkpoint, also with another `sft.device_batch`.

    Raises
    ------
    TrainingError
        An example is longer than `sft.max_tokens`, the loss ceases to be finite, the batch cannot be dealt out to the processes, or
        memory or disk run out.
    """
    seed = cfg.profile.seed if seed is None else seed
    settings = describe_sft(cfg, model_name, culture, data, seed=seed)
    folder = find_adapter(cfg, model_name, culture, stage, seed)
    if find_step(folder, settings):
        return folder
    sft, language = cfg.profile.sft, cfg.language_of(culture)
    what, checkpoints = f"{model_name}, {culture}, {stage}", _name_checkpoints(folder, settings)
    with share_step(folder, settings, remedy=f"lower sft.device_batch in the profile (now {sft.device_batch})") as work:
        set_seed(seed)
        model, tokenizer = load_base(cfg.models[model_name], seed=seed)
        tokenizer.padding_side = "right"
        steps = plan_steps(sft, len(data.cues["train"]))
        train = build_examples(
            data.norms, data.cues["train"], language, rows=steps * sft.batch, length=sft.list_length, order=sft.order,
            seed=seed, temperature=sft.temperature, lists=sft.lists,
        )  # fmt: skip
        valid = build_examples(
            data.norms, data.cues["valid"], language, rows=len(data.cues["valid"]), length=sft.list_length,
            order="strength", seed=seed,
        )  # fmt: skip
        _check_lengths(tokenizer, [*train, *valid], sft.max_tokens)
        plan = {"seed": seed, "max_steps": steps, "warmup_steps": int(sft.warmup_share * steps)}
        trainer = pick_trainer(model)(
            model=model, args=configure_sft(cfg, checkpoints, **plan), processing_class=tokenizer,
            train_dataset=Dataset.from_list(train), eval_dataset=Dataset.from_list(valid), peft_config=configure_lora(cfg),
            callbacks=[Seal(), Watch(what, LOGGED, f"sft.learning_rate (now {sft.learning_rate:g})")],
        )  # fmt: skip
        require_space(what, folder.parent, measure_checkpoints(trainer.model), kind=TrainingError)
        widen_adapter(trainer)
        show_progress(trainer)
        before = {"step": 0, "eval_loss": trainer.evaluate()["eval_loss"]}
        reached = find_checkpoint(checkpoints)
        if reached and PartialState().is_main_process:
            (work / NOTE).write_text(f"went on from {Path(reached).name}", encoding="utf-8")
        trainer.train(resume_from_checkpoint=reached)
        if steps % sft.eval_every:
            trainer.evaluate()
        log = tabulate_log([before, *trainer.state.log_history], {"loss": "loss", "eval_loss": "eval_loss"})
        trained = trainer.accelerator.unwrap_model(trainer.model)
        weights = trainer.accelerator.get_state_dict(trainer.model) if PartialState().num_processes > 1 else None
        if PartialState().is_main_process:
            trained.save_pretrained(work, safe_serialization=True, state_dict=weights)
            save_frame(log, work / "log.csv")
    return folder


def configure_sft(cfg: Config, folder: Path, **changes) -> SFTConfig:
    """trl's settings for the SFT stage; `changes` replace single ones (the benchmark leaves out checkpoints)."""
    sft = cfg.profile.sft
    device, dtype, _ = pick_device()
    device_batch, accumulation = share_batch("sft.batch", sft.batch, sft.device_batch)
    # Not grouped by length: at 8 lists a batch padding is 5 (US) and 10 % (China) of the tokens, and the order would depend on it.
    settings = dict(
        output_dir=str(folder), max_steps=sft.steps, per_device_train_batch_size=device_batch,
        gradient_accumulation_steps=accumulation, per_device_eval_batch_size=device_batch,
        learning_rate=sft.learning_rate, lr_scheduler_type="linear", warmup_steps=int(sft.warmup_share * sft.steps),
        max_length=sft.max_tokens, logging_steps=1, eval_strategy="steps", eval_steps=sft.eval_every, save_strategy="steps",
        save_steps=sft.eval_every, save_total_limit=KEPT, bf16=dtype == torch.bfloat16, fp16=dtype == torch.float16,
        gradient_checkpointing=torch.cuda.is_available(), report_to="none", seed=cfg.profile.seed, use_cpu=device.type == "cpu", dataloader_num_workers=0, logging_nan_inf_filter=False,
    )  # fmt: skip
    return SFTConfig(**settings | changes)


@torch.inference_mode()
def measure_loss(model, tokenizer, examples: Sequence[dict[str, str]], *, batch: int) -> float:
    """Mean negative log-likelihood of the completions' tokens, the end token among them, in nats per token.

    Parameters
    ----------
    examples : sequence of dict
        From `build_examples`.
    batch : int
        Rows at once; the result does not depend on it.
    """
    total = count = 0
    for first in range(0, len(examples), batch):
        part = examples[first : first + batch]
        starts = [len(tokenizer(row["prompt"])["input_ids"]) for row in part]
        rows = [tokenizer(row["prompt"] + row["completion"])["input_ids"] + [tokenizer.eos_token_id] for row in part]
        width, lowest = max(map(len, rows)), min(starts)
        # Padded on the right, where a causal model cannot see it; the prompt and the padding do not count.
        ids = torch.tensor([row + [tokenizer.pad_token_id] * (width - len(row)) for row in rows], device=model.device)
        places = torch.arange(width, device=model.device)
        ends = torch.tensor([len(row) for row in rows], device=model.device)[:, None]
        counted = (places >= torch.tensor(starts, device=model.device)[:, None]) & (places < ends)
        logits = model(
            input_ids=ids, attention_mask=(places < ends).long(), logits_to_keep=width - lowest + 1
        ).logits[:, :-1]  # fmt: skip
        losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), ids[:, lowest:].flatten(), reduction="none")
        total += float((losses.view(len(rows), -1) * counted[:, lowest:]).sum())
        count += int(counted.sum())
    return total / count


def _check_lengths(tokenizer, examples: list[dict[str, str]], limit: int) -> None:
    # trl truncates silently; a cut completion would teach the model to stop in the middle of a word.
    longest = max(examples, key=lambda example: len(tokenizer(example["prompt"] + example["completion"])["input_ids"]))
    size = len(tokenizer(longest["prompt"] + longest["completion"])["input_ids"]) + 1
    if size > limit:
        raise TrainingError(f"the example {longest['prompt']!r} has {size} tokens, above sft.max_tokens = {limit}: raise it")


def _name_checkpoints(folder: Path, settings: dict) -> Path:
    # Beside the work folder, so that they last until the step is in place.
    work = name_work(folder, settings)
    return work.with_name(f"{work.name}-checkpoints")


def describe_sft(cfg: Config, model_name: str, culture: str, data: CultureNorms, *, seed: int) -> dict:
    """Everything an SFT adapter depends on: the key under which it is stored.

    The rows a device takes at once are left out, here and in the stages that follow: who lowers them because memory ran out keeps
    what is finished and goes on from the last checkpoint.
    """
    return data.control | {
        "version": SFT_VERSION, "base": hash_base(cfg.models[model_name], seed=cfg.profile.seed), "culture": culture,
        "norms": hash_file(data.path), "cues": hash_settings(data.cues), "seed": seed,
        "sft": cfg.profile.sft.model_dump(exclude={"device_batch"}, exclude_defaults=True), "lora": cfg.profile.lora.model_dump(),
        "prompt": [getattr(cfg.language_of(culture), name) for name in ("list_prompt", "list_lead", "separator")],
    }  # fmt: skip
