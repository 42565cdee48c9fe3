"""Cross-entropy of a large vocabulary and its gradient in one pass, for processors where each extra pass over the logits shows.

liger-kernel and cut-cross-entropy do the same with Triton kernels, which are for GPUs; on a CPU neither runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakKeyDictionary

import torch
from accelerate import PartialState
from trl import SFTTrainer

# Vocabulary rows a block holds: its logits for a batch of lists (about 20 MB) stay in a processor's cache.
ROWS = 16384
# Models that `_probe_head` was asked about, and what it found.
_PROBED: WeakKeyDictionary = WeakKeyDictionary()


def sum_token_losses(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Summed negative log-likelihood (nats) of the target ids under `softmax(hidden @ weight.T)`.

    `hidden` has shape (tokens, width), `weight` (vocabulary, width): frozen, it receives no gradient. The vocabulary is walked once in
    blocks with a running maximum, as in online softmax (Milakov & Gimelshein 2018); the gradient with respect to `hidden` is gathered
    in the same walk, so the logits are neither kept nor computed again.
    """
    return _TokenLoss.apply(hidden, weight, targets, False)[0].sum()


def score_tokens(
    hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, *, entropy: bool = False
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Log-likelihood of every target, and with `entropy` that of its distribution (nats, without gradient; else None).

    As `sum_token_losses`, in the same walk; for a temperature divide `hidden` by it.
    """
    losses, entropies = _TokenLoss.apply(hidden, weight, targets, entropy)
    return -losses, entropies if entropy else None


class _TokenLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, weight, targets, entropy):
        top = hidden.new_full((len(hidden),), -torch.inf)
        total, mean = torch.zeros_like(top), torch.zeros_like(top)
        pull = torch.zeros_like(hidden) if ctx.needs_input_grad[0] else None
        for block in weight.split(ROWS):
            # (rows, tokens) instead of (tokens, rows): twice as fast for the few tokens of a batch.
            scores = block @ hidden.T
            higher = torch.maximum(top, scores.amax(0))
            scale = torch.exp(top - higher)
            raw = scores.clone() if entropy else None
            scores.sub_(higher).exp_()
            if raw is not None:
                mean.mul_(scale).add_(raw.mul_(scores).sum(0))
            total.mul_(scale).add_(scores.sum(0))
            if pull is not None:
                pull.mul_(scale[:, None]).addmm_(scores.T, block)
            top = higher
        chosen = weight[targets]
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
def measure_loss(model, tokenizer, examples: Sequence[dict[str, str]], *, batch: int) -> float:
    """Mean negative log-likelihood of the completions' tokens, the end token among them, in nats per token.

    `examples` are those of `sft.build_examples`; the result does not depend on `batch`, the rows taken at once.
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


def refuse_rewritten(*classes: type) -> None:
    """Stop where trl's trainers are no longer trl's: unsloth, imported first, puts trainers of its own in their place."""
    for owner in classes:
        if not owner.__module__.startswith("trl."):
            raise ImportError(
                f"{owner.__name__} comes from {owner.__module__} in the place of trl: unsloth was imported before. Restart Python and "
                "import align_utils first; it loads unsloth itself, with the first model that needs it"
            )


refuse_rewritten(SFTTrainer)


class FusedTrainer(SFTTrainer):
    """trl's SFTTrainer with `sum_token_losses` in the place of its chunked loss: the same loss without recomputation."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Mean loss over the completion tokens of the batch (of the whole global batch where the trainer counts it)."""
        labels = inputs["labels"][:, 1:]
        core = self.accelerator.unwrap_model(model).get_base_model()
        hidden = core.base_model(
            input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], use_cache=False
        ).last_hidden_state
        kept = labels != -100
        loss = sum_token_losses(hidden[:, :-1][kept], core.get_output_embeddings().weight, labels[kept])
        loss = loss / (kept.sum() if num_items_in_batch is None else num_items_in_batch)
        return (loss, {"loss": loss}) if return_outputs else loss


def pick_trainer(model) -> type[SFTTrainer]:
    """FusedTrainer where its loss is the model's own and pays: float32 on a CPU, logits neither scaled, capped nor shifted.

    Several processes take trl's: the fused loss calls the model past the wrapper that gathers their gradients.
    """
    return FusedTrainer if has_plain_head(model) else SFTTrainer


def has_plain_head(model) -> bool:
    """Whether `hidden @ weight.T` are the model's logits, in float32 on a CPU, in one process.

    Configurations have many names for a scale of the logits (`logit_scale`, `logits_scaling`, `lm_head_multiplier`, ...), so the
    model itself is asked once. A cap hardly shows in the small logits of a random model, so that one is known by its name.
    """
    if PartialState().num_processes > 1:
        return False
    settings, head = model.config.get_text_config(), model.get_output_embeddings()
    if head.weight.dtype != torch.float32 or head.weight.device.type != "cpu" or head.bias is not None:
        return False
    if getattr(settings, "final_logit_softcapping", None):
        return False
    if model not in _PROBED:
        _PROBED[model] = _probe_head(model)
    return _PROBED[model]


@torch.no_grad()
def _probe_head(model) -> bool:
    # In evaluation mode: dropout would make two passes differ, and draw from the random stream of the training.
    ids, was_training = torch.arange(4)[None], model.training
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "use_cache": False}
    model.eval()
    logits, hidden = model(**given).logits, model.base_model(**given).last_hidden_state
    model.train(was_training)
    plain = hidden @ model.get_output_embeddings().weight.T
    return torch.allclose(logits, plain, rtol=1e-3, atol=1e-4 * float(plain.abs().max()))
