"""Supervised fine-tuning: a LoRA adapter learns to continue a cue with what native speakers answer.

On a CPU the cross-entropy of a large vocabulary and its gradient come in one pass, as each extra pass over the logits shows there;
liger-kernel and cut-cross-entropy do the same with Triton kernels, which are for GPUs.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
from accelerate import PartialState
from datasets import Dataset, disable_progress_bars
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer

from align_utils.config.profiles import Config
from align_utils.config.settings import Language, Lora, Sft
from align_utils.models.load import multiply_wide, pick_device
from align_utils.models.prompts import build_list_prompt, draw_lists, format_list
from align_utils.norms.split import CultureNorms
from align_utils.store.steps import NOTE, TrainingError
from align_utils.training.job import KEPT, Job, Seal, find_checkpoint, guard, save_adapter, share_batch, tabulate_log

# Vocabulary rows a block of the fused loss holds: its logits for a batch of lists (about 20 MB) stay in a processor's cache.
ROWS = 16384
# Architectures that neither scale nor shift their logits (others do, as Granite and Cohere); a cap stands in the configuration.
PLAIN = {"gemma3_text", "llama", "mistral", "qwen2", "qwen3", "smollm3", "olmo2"}


def write_examples(language: Language, cues: Sequence[str], lists: Sequence[Sequence[str]]) -> list[dict[str, str]]:
    """`prompt` and `completion` of every cue and its list; the separating space belongs to the completion."""
    return [
        {"prompt": build_list_prompt(language, cue), "completion": format_list(language, words)}
        for cue, words in zip(cues, lists, strict=True)
    ]


def build_examples(
    norms: pd.DataFrame, cues: Sequence[str], language: Language, sft: Sft, *, rows: int, seed: int
) -> list[dict[str, str]]:  # fmt: skip
    """So many training examples (`write_examples`) with the profile's settings: passes over the cues, shuffled anew in each.

    Lists are drawn (`prompts.draw_lists`) `fresh` in each pass, or once (`fixed`), as `sft.lists` says.
    """
    examples: list[dict[str, str]] = []
    words: dict[str, list[str]] = {}
    cues, turn = sorted(cues), seed
    while len(examples) < rows:
        shuffled = pd.Series(cues).sample(frac=1, random_state=turn).tolist()
        if turn == seed or sft.lists == "fresh":
            drawn = draw_lists(norms, shuffled, length=sft.list_length, order=sft.order, seed=turn, temperature=sft.temperature)
            words = dict(zip(shuffled, drawn, strict=True))
        examples += write_examples(language, shuffled, [words[cue] for cue in shuffled])
        turn += 1
    return examples[:rows]


def build_held_out(own: CultureNorms, language: Language, sft: Sft, *, seed: int) -> list[dict[str, str]]:
    """One example a validation cue, shuffled: as many of its strongest responses as a training list holds, in order."""
    cues, ordered = own.cues["valid"], sft.model_copy(update={"order": "strength"})
    return build_examples(own.norms, cues, language, ordered, rows=len(cues), seed=seed)


def show_examples(cfg: Config, people: dict[str, CultureNorms]) -> pd.DataFrame:
    """The first training example of every culture, uncut: `culture, passes` (over the training cues), `prompt, completion`.

    `people`: culture to its norms and cues (`norms.load_run`).
    """
    rows, sft = [], cfg.profile.sft
    for name, own in people.items():
        cues = own.cues["train"]
        (first,) = build_examples(own.norms, cues, cfg.language_of(name), sft, rows=1, seed=cfg.profile.seed)
        rows.append({"culture": name, "passes": count_passes(sft, len(cues)), **first})
    return pd.DataFrame(rows)


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
    sft, own, state = job.settings, job.own, PartialState()
    tokenizer.padding_side = "right"
    disable_progress_bars()  # they would stand in the notebook
    steps = plan_steps(sft, len(job.cues))
    train = build_examples(own.norms, job.cues, job.language, sft, rows=steps * sft.batch, seed=job.seed)
    valid = build_held_out(own, job.language, sft, seed=job.seed)
    check_lengths(tokenizer, [*train, *valid], sft.max_tokens)
    # Beside the work folder, so that checkpoints last until the step is in place.
    checkpoints = work.with_name(f"{work.name}-checkpoints")
    trainer = pick_trainer(model)(
        model=model, args=configure_sft(job.cfg.profile.sft, checkpoints, steps=steps, seed=job.seed), processing_class=tokenizer, callbacks=[Seal()],
        train_dataset=Dataset.from_list(train), eval_dataset=Dataset.from_list(valid), peft_config=configure_lora(job.cfg.profile.lora),
    )  # fmt: skip
    guard(trainer, job)
    widen_adapter(trainer)
    before = {"step": 0, "eval_loss": trainer.evaluate()["eval_loss"]}
    reached = find_checkpoint(checkpoints)
    if reached and state.is_main_process:
        (work / NOTE).write_text(f"went on from {Path(reached).name}", encoding="utf-8")
    trainer.train(resume_from_checkpoint=reached)
    if steps % sft.eval_every:
        trainer.evaluate()
    weights = trainer.accelerator.get_state_dict(trainer.model) if state.num_processes > 1 else None
    if state.is_main_process:
        save_adapter(trainer.accelerator.unwrap_model(trainer.model), work, weights=weights)
    return tabulate_log([before, *trainer.state.log_history], {"loss": "loss", "eval_loss": "eval_loss"})


def widen_adapter(trainer) -> None:
    """Make the adapter of a 4-bit model float32.

    trl makes it bfloat16. Its 8 bits lose the small steps at the end of a training (at a rate that has fallen to 1e-5 most of them),
    and where training is in float16 (a T4) the gradient scaler refuses such gradients. Other adapters are left as trl made them:
    float32, or under ZeRO-3, which cannot gather two types, the model's own type.
    """
    if getattr(trainer.model, "is_loaded_in_4bit", False):
        for weights in trainer.model.parameters():
            if weights.requires_grad:
                weights.data = weights.data.float()


def configure_lora(lora: Lora) -> LoraConfig:
    """LoRA on all linear layers with the profile's rank, scale and dropout."""
    return LoraConfig(
        r=lora.r, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules="all-linear", task_type="CAUSAL_LM"
    )


def configure_sft(sft: Sft, folder: Path, *, steps: int, seed: int) -> SFTConfig:
    """trl's settings for the SFT stage."""
    device, dtype, _ = pick_device()
    device_batch, accumulation = share_batch("sft.batch", sft.batch, sft.device_batch)
    # Not grouped by length: at 8 lists a batch padding is 5 (US) and 10 % (China) of the tokens, and the order would depend on it.
    return SFTConfig(
        output_dir=str(folder), max_steps=steps, per_device_train_batch_size=device_batch,
        gradient_accumulation_steps=accumulation, per_device_eval_batch_size=device_batch,
        learning_rate=sft.learning_rate, lr_scheduler_type="linear", warmup_steps=int(sft.warmup_share * steps),
        max_length=sft.max_tokens, logging_steps=1, eval_strategy="steps", eval_steps=sft.eval_every, save_strategy="steps",
        save_steps=sft.eval_every, save_total_limit=KEPT, bf16=dtype == torch.bfloat16, fp16=dtype == torch.float16,
        gradient_checkpointing=torch.cuda.is_available(), report_to="none", seed=seed,
        use_cpu=device.type == "cpu", dataloader_num_workers=0, logging_nan_inf_filter=False,
    )  # fmt: skip


def check_lengths(tokenizer, examples: list[dict[str, str]], limit: int) -> None:
    """Refuse an example that trl would cut in silence: a cut completion would teach the model to stop in the middle of a word."""
    sizes = [len(tokenizer(example["prompt"] + example["completion"])["input_ids"]) + 1 for example in examples]
    if (size := max(sizes)) > limit:
        longest = examples[sizes.index(size)]["prompt"]
        raise TrainingError(f"the example {longest!r} has {size} tokens, above sft.max_tokens = {limit}: raise it")


def score_tokens(
    hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, *, entropy: bool = False
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Log-likelihood (nats) of every target under `softmax(hidden @ weight.T)`, and with `entropy` that of its distribution (without
    gradient; else None).

    `hidden` has shape (tokens, width), `weight` (vocabulary, width): frozen, it receives no gradient. The vocabulary is walked once in
    blocks with a running maximum, as in online softmax (Milakov & Gimelshein 2018); the gradient with respect to `hidden` is gathered
    in the same walk, so the logits are neither kept nor computed again. For a temperature divide `hidden` by it. With bfloat16 weights
    what is added up over the vocabulary, and the result, are float32.
    """
    losses, entropies = _TokenLoss.apply(hidden, weight, targets, entropy)
    return -losses, entropies if entropy else None


class _TokenLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, weight, targets, entropy):
        narrow, hidden = hidden.to(weight.dtype), hidden.float()
        top = hidden.new_full((len(hidden),), -torch.inf)
        total, mean = torch.zeros_like(top), torch.zeros_like(top)
        pull = torch.zeros_like(hidden) if ctx.needs_input_grad[0] else None
        for block in weight.split(ROWS):
            # (rows, tokens) instead of (tokens, rows): twice as fast for the few tokens of a batch.
            scores = multiply_wide(block, narrow)
            higher = torch.maximum(top, scores.amax(0))
            scale = torch.exp(top - higher)
            raw = scores.clone() if entropy else None
            scores.sub_(higher).exp_()
            if raw is not None:
                mean.mul_(scale).add_(raw.mul_(scores).sum(0))
            total.mul_(scale).add_(scores.sum(0))
            if pull is not None:
                pull.mul_(scale[:, None])
                pull = (
                    pull.addmm_(scores.T, block) if block.dtype == pull.dtype else pull.add_(scores.T.to(block.dtype) @ block)
                )
            top = higher
        chosen = weight[targets].float()
        if pull is not None:
            ctx.save_for_backward(pull.div_(total[:, None]).sub_(chosen))
        normaliser = top + total.log()
        # Without `entropy` the second output is empty of meaning and never handed on.
        entropies = normaliser - mean / total
        ctx.mark_non_differentiable(entropies)
        return normaliser - (hidden * chosen).sum(1), entropies

    @staticmethod
    def backward(ctx, gradient, _):
        (slope,) = ctx.saved_tensors
        return slope * gradient[:, None], None, None, None


@torch.inference_mode()
def score_completions(model, tokenizer, examples: Sequence[dict[str, str]], *, batch: int) -> list[torch.Tensor]:
    """Log-probability (nats) of every token of every completion, the end token last; each of shape (tokens,), on the CPU.

    `examples` are those of `build_examples`; the result does not depend on `batch`, the rows taken at once.
    """
    scored = []
    for first in range(0, len(examples), batch):
        part = examples[first : first + batch]
        starts = [len(tokenizer(row["prompt"])["input_ids"]) for row in part]
        rows = [tokenizer(row["prompt"] + row["completion"])["input_ids"] + [tokenizer.eos_token_id] for row in part]
        width, lowest = max(map(len, rows)), min(starts)
        # Padded on the right, where a causal model cannot see it.
        ids = torch.tensor([row + [tokenizer.pad_token_id] * (width - len(row)) for row in rows], device=model.device)
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=model.device)
        logits = model(input_ids=ids, attention_mask=mask, logits_to_keep=width - lowest + 1).logits[:, :-1]
        losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), ids[:, lowest:].flatten(), reduction="none")
        losses = losses.view(len(rows), -1).cpu()
        scored += [-row[start - lowest : len(tokens) - lowest] for row, start, tokens in zip(losses, starts, rows, strict=True)]
    return scored


def measure_loss(model, tokenizer, examples: Sequence[dict[str, str]], *, batch: int) -> float:
    """Mean negative log-likelihood of the completions' tokens, the end token among them, in nats per token (`score_completions`)."""
    return -float(torch.cat(score_completions(model, tokenizer, examples, batch=batch)).mean())


def refuse_rewritten(*classes: type) -> None:
    """Stop where trl's trainers are no longer trl's: unsloth, imported first, puts trainers of its own in their place."""
    for owner in classes:
        if not owner.__module__.startswith("trl."):
            raise ImportError(
                f"{owner.__name__} comes from {owner.__module__} in the place of trl: unsloth was imported before. Restart Python, leave "
                "`import unsloth` out and train before a model is asked: align_utils imports it itself, with the first model that needs it"
            )


refuse_rewritten(SFTTrainer)


class FusedTrainer(SFTTrainer):
    """trl's SFTTrainer with `score_tokens` in the place of its chunked loss: the same loss without recomputation."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Mean loss over the completion tokens of the batch (of the whole global batch where the trainer counts it)."""
        labels = inputs["labels"][:, 1:]
        core = self.accelerator.unwrap_model(model).get_base_model()
        hidden = core.base_model(
            input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], use_cache=False
        ).last_hidden_state
        kept = labels != -100
        logs, _ = score_tokens(hidden[:, :-1][kept], core.get_output_embeddings().weight, labels[kept])
        loss = -logs.sum() / (kept.sum() if num_items_in_batch is None else num_items_in_batch)
        return (loss, {"loss": loss}) if return_outputs else loss


def pick_trainer(model) -> type[SFTTrainer]:
    """FusedTrainer where its loss is the model's own and pays: on a CPU, logits neither scaled, capped nor shifted.

    Several processes take trl's: the fused loss calls the model past the wrapper that gathers their gradients.
    """
    return FusedTrainer if has_plain_head(model) else SFTTrainer


def has_plain_head(model) -> bool:
    """Whether `hidden @ weight.T` are the model's logits, on a CPU, in one process; other models than PLAIN keep the loss of trl."""
    settings, head = model.config.get_text_config(), model.get_output_embeddings()
    return (
        PartialState().num_processes == 1
        and settings.model_type in PLAIN
        and not getattr(settings, "final_logit_softcapping", None)
        and head.weight.dtype in (torch.float32, torch.bfloat16)
        and head.weight.device.type == "cpu"
        and head.bias is None
    )
