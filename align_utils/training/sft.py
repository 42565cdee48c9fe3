"""Supervised fine-tuning: a LoRA adapter learns to continue a cue with what native speakers answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
from accelerate import PartialState
from datasets import Dataset
from trl import SFTConfig

from align_utils.config.profiles import Config
from align_utils.config.settings import Language, Sft
from align_utils.models.adapters import configure_lora, share_batch, widen_adapter
from align_utils.models.load import pick_device
from align_utils.models.prompts import build_list_prompt, draw_lists, format_list
from align_utils.norms.split import CultureNorms
from align_utils.store.steps import NOTE, TrainingError
from align_utils.training.job import Job
from align_utils.training.loss import pick_trainer
from align_utils.training.tables import tabulate_log
from align_utils.training.validation import KEPT, Seal, find_checkpoint, guard


def build_examples(
    norms: pd.DataFrame, cues: Sequence[str], language: Language, *, rows: int, length: int, order: str, seed: int,
    temperature: float = 1.0, lists: str = "fresh",
) -> list[dict[str, str]]:  # fmt: skip
    """`prompt` and `completion` of `rows` training examples: passes over the cues, shuffled anew in each.

    `length, order, seed, temperature` are those of `prompts.draw_lists`; `lists` are drawn `fresh` in each pass, or once (`fixed`).
    """
    examples: list[dict[str, str]] = []
    words: dict[str, list[str]] = {}
    cues, turn = sorted(cues), 0
    while len(examples) < rows:
        shuffled = pd.Series(cues).sample(frac=1, random_state=seed + turn).tolist()
        if turn == 0 or lists == "fresh":
            drawn = draw_lists(norms, shuffled, length=length, order=order, seed=seed + turn, temperature=temperature)
            words = dict(zip(shuffled, drawn, strict=True))
        # The separating space belongs to the completion.
        examples += [
            {"prompt": build_list_prompt(language, cue), "completion": format_list(language, words[cue])} for cue in shuffled
        ]
        turn += 1
    return examples[:rows]


def build_taught(own: CultureNorms, language: Language, sft: Sft, *, rows: int, seed: int) -> list[dict[str, str]]:
    """Training examples of a culture with the profile's settings."""
    return build_examples(
        own.norms, own.cues["train"], language, rows=rows, seed=seed, length=sft.list_length, order=sft.order,
        temperature=sft.temperature, lists=sft.lists,
    )  # fmt: skip


def build_held_out(own: CultureNorms, language: Language, *, length: int, seed: int) -> list[dict[str, str]]:
    """One example a validation cue, shuffled: its strongest responses in order."""
    cues = own.cues["valid"]
    return build_examples(own.norms, cues, language, rows=len(cues), length=length, order="strength", seed=seed)


def show_examples(cfg: Config, people: dict[str, CultureNorms]) -> pd.DataFrame:
    """The first training example of every culture, uncut.

    Parameters
    ----------
    people : dict
        Culture to its norms and cues (`norms.load_run`).

    Returns
    -------
    DataFrame
        `culture, passes` (over the training cues), `prompt, completion`.
    """
    sft = cfg.profile.sft
    return pd.DataFrame([
        {"culture": name, "passes": count_passes(sft, len(own.cues["train"]))}
        | build_taught(own, cfg.language_of(name), sft, rows=1, seed=cfg.profile.seed)[0]
        for name, own in people.items()
    ])  # fmt: skip


def plan_steps(sft: Sft, cues: int) -> int:
    """Optimiser steps for so many training cues: `sft.steps`, or, where `sft.passes` is set, as many as make those passes."""
    return sft.steps if sft.passes is None else math.ceil(sft.passes * cues / sft.batch)


def count_passes(sft: Sft, cues: int) -> float:
    """How often training goes over its cues: steps * batch / cues."""
    return plan_steps(sft, cues) * sft.batch / cues


def fine_tune(job: Job, model, tokenizer, work: Path) -> pd.DataFrame:
    """Train an adapter (loss on the completion only) into `work`; its log: `step, loss, eval_loss` in nats per token.

    An interrupted training goes on from its last whole checkpoint, also with another `sft.device_batch`.
    """
    sft, own, main = job.settings, job.own, PartialState().is_main_process
    tokenizer.padding_side = "right"
    steps = plan_steps(sft, len(job.cues))
    train = build_taught(own, job.language, sft, rows=steps * sft.batch, seed=job.seed)
    valid = build_held_out(own, job.language, length=sft.list_length, seed=job.seed)
    _check_lengths(tokenizer, [*train, *valid], sft.max_tokens)
    # Beside the work folder, so that checkpoints last until the step is in place.
    checkpoints = work.with_name(f"{work.name}-checkpoints")
    plan = {"seed": job.seed, "max_steps": steps, "warmup_steps": int(sft.warmup_share * steps)}
    trainer = pick_trainer(model)(
        model=model, args=configure_sft(job.cfg, checkpoints, **plan), processing_class=tokenizer, callbacks=[Seal()],
        train_dataset=Dataset.from_list(train), eval_dataset=Dataset.from_list(valid), peft_config=configure_lora(job.cfg),
    )  # fmt: skip
    guard(trainer, job)
    widen_adapter(trainer)
    before = {"step": 0, "eval_loss": trainer.evaluate()["eval_loss"]}
    reached = find_checkpoint(checkpoints)
    if reached and main:
        (work / NOTE).write_text(f"went on from {Path(reached).name}", encoding="utf-8")
    trainer.train(resume_from_checkpoint=reached)
    if steps % sft.eval_every:
        trainer.evaluate()
    weights = trainer.accelerator.get_state_dict(trainer.model) if PartialState().num_processes > 1 else None
    if main:
        trained = trainer.accelerator.unwrap_model(trainer.model)
        trained.save_pretrained(work, safe_serialization=True, state_dict=weights)
    return tabulate_log([before, *trainer.state.log_history], {"loss": "loss", "eval_loss": "eval_loss"})


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
        gradient_checkpointing=torch.cuda.is_available(), report_to="none", seed=cfg.profile.seed,
        use_cpu=device.type == "cpu", dataloader_num_workers=0, logging_nan_inf_filter=False,
    )  # fmt: skip
    return SFTConfig(**settings | changes)


def _check_lengths(tokenizer, examples: list[dict[str, str]], limit: int) -> None:
    # trl truncates silently; a cut completion would teach the model to stop in the middle of a word.
    sizes = [len(tokenizer(example["prompt"] + example["completion"])["input_ids"]) + 1 for example in examples]
    if (size := max(sizes)) > limit:
        longest = examples[sizes.index(size)]["prompt"]
        raise TrainingError(f"the example {longest!r} has {size} tokens, above sft.max_tokens = {limit}: raise it")
