"""Cross-entropy of a large vocabulary and its gradient in one pass, for processors where each extra pass over the logits shows."""

from __future__ import annotations

import torch
from accelerate import PartialState
from trl import SFTTrainer

# Vocabulary rows a block holds: its logits for a batch of lists (about 20 MB) stay in a processor's cache.
ROWS = 16384


def sum_token_losses(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Summed negative log-likelihood of the targets under `softmax(hidden @ weight.T)`.

    The vocabulary is walked once in blocks with a running maximum, as in online softmax (Milakov & Gimelshein 2018); the
    gradient with respect to `hidden` is gathered in the same walk, so the logits are neither kept nor computed again.

    Parameters
    ----------
    hidden : Tensor of shape (tokens, width)
    weight : Tensor of shape (vocabulary, width)
        Frozen: it receives no gradient.
    targets : Tensor of shape (tokens,)
        Token ids.

    Returns
    -------
    Tensor
        Scalar, nats.
    """
    return _TokenLoss.apply(hidden, weight, targets)


class _TokenLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, weight, targets):
        top = hidden.new_full((len(hidden),), -torch.inf)
        total = torch.zeros_like(top)
        pull = torch.zeros_like(hidden) if ctx.needs_input_grad[0] else None
        for block in weight.split(ROWS):
            # (rows, tokens) instead of (tokens, rows): twice as fast for the few tokens of a batch.
            scores = block @ hidden.T
            higher = torch.maximum(top, scores.amax(0))
            scale = torch.exp(top - higher)
            scores.sub_(higher).exp_()
            total.mul_(scale).add_(scores.sum(0))
            if pull is not None:
                pull.mul_(scale[:, None]).addmm_(scores.T, block)
            top = higher
        chosen = weight[targets]
        if pull is not None:
            ctx.save_for_backward(pull.div_(total[:, None]).sub_(chosen))
        return (top + total.log() - (hidden * chosen).sum(1)).sum()

    @staticmethod
    def backward(ctx, gradient):
        (slope,) = ctx.saved_tensors
        return slope * gradient, None, None


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
    if PartialState().num_processes > 1:
        return SFTTrainer
    settings, head = model.config.get_text_config(), model.get_output_embeddings()
    changed = head.bias is not None or any(getattr(settings, name, None) for name in ("final_logit_softcapping", "logit_scale"))
    plain = head.weight.dtype == torch.float32 and head.weight.device.type == "cpu" and not changed
    return FusedTrainer if plain else SFTTrainer
