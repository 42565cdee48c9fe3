"""What the prompts of a batch have in common, read by the model once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import Cache, DynamicCache

from align_utils.failures import ModelError


@dataclass
class Batch:
    """Prompts of a batch, the pads between their common beginning and the rest of each.

    Attributes
    ----------
    ids, mask, positions : Tensor of shape (rows, width)
        Token ids; 0 where padded; place in the row without its pads.
    shared : int
        Tokens of the common beginning.
    cache : Cache or None
        The model's keys and values of the common beginning, for every row; None where nothing is shared.
    """

    ids: torch.Tensor
    mask: torch.Tensor
    positions: torch.Tensor
    shared: int
    cache: Cache | None


def measure_prefix(rows: Sequence[Sequence[int]], *, keep: int = 1) -> int:
    """Number of tokens all rows begin with; the last `keep` of the shortest never count, since something is read after them."""
    limit = max(0, min(map(len, rows)) - keep)
    return next((i for i in range(limit) if len({row[i] for row in rows}) > 1), limit)


@torch.inference_mode()
def read_batch(model, pad: int, rows: Sequence[Sequence[int]], *, keep: int = 1, ahead: int = 0) -> Batch:
    """Lay out prompts (token ids) as a batch and run the model over their common beginning once.

    The mask hides the pads and the positions pass over them, so each row is answered as if it stood alone.

    Parameters
    ----------
    ahead : int
        Tokens that will be read after the prompts at most.

    Raises
    ------
    ModelError
        Pads would stand in the window of a model with sliding attention (Gemma 3: 512 tokens): prompts of unlike length, or prompts
        whose last `keep` - 1 tokens are hidden later, that reach beyond it with what is read after them.
    """
    _check_window(model, rows, ahead, hidden=keep > 1 and ahead > 0)
    shared, width = measure_prefix(rows, keep=keep), max(map(len, rows))
    ids = torch.full((len(rows), width), pad)
    mask = torch.ones_like(ids)
    for index, row in enumerate(rows):
        gap = width - len(row)
        ids[index, :shared] = torch.tensor(row[:shared])
        ids[index, shared + gap :] = torch.tensor(row[shared:])
        mask[index, shared : shared + gap] = 0
    ids, mask = ids.to(model.device), mask.to(model.device)
    cache = None
    if shared and len(rows) > 1:
        # No position is kept for the output layer: of the common beginning only keys and values are wanted.
        none = torch.empty(0, dtype=torch.long, device=model.device)
        cache = wrap_cache(model(input_ids=ids[:1, :shared], use_cache=True, logits_to_keep=none).past_key_values)
        cache.batch_repeat_interleave(len(rows))
    else:
        shared = 0
    return Batch(ids, mask, (mask.cumsum(1) - 1).clamp(min=0), shared, cache)


def _check_window(model, rows: Sequence[Sequence[int]], ahead: int, *, hidden: bool) -> None:
    # A pad takes a place in the window, so that a short row would see less of itself than alone.
    settings, lengths = model.config.get_text_config(), {len(row) for row in rows}
    window = settings.sliding_window if "sliding_attention" in (getattr(settings, "layer_types", None) or ()) else None
    if window and max(lengths) + ahead > window and (len(lengths) > 1 or hidden):
        raise ModelError(
            f"a prompt of {max(lengths)} tokens and {ahead} after it are longer than the model's attention window ({window}), and what is "
            "padded beside it would be read otherwise than alone: shorten the prompts (lexical.few_shot, the survey's wording) or take "
            "another model"
        )


class TupleCache(DynamicCache):
    """Keys and values that a model gave as plain tuples, which cannot be repeated or have rows taken away: unsloth's do."""


def wrap_cache(pairs) -> Cache:
    """A model's cache as transformers' own kind."""
    if isinstance(pairs, Cache):
        return pairs
    cache = TupleCache()
    for layer, (keys, values) in enumerate(pairs):
        cache.update(keys, values, layer)
    return cache


def place_inputs(ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, cache: Cache | None, start: int) -> dict:
    """What a model is handed to read the tokens from `start` on, after a cache of those before.

    A single token takes a way of its own through unsloth's models: it is read against buffers that the layers keep, which the
    cache handed in fills but once, so that rows copied or taken away since go unseen. There the token before is read again with it.

    Parameters
    ----------
    ids, mask, positions : Tensor of shape (rows, width)
        As in `Batch`, the tokens in the cache included.
    """
    if isinstance(cache, TupleCache) and start == ids.shape[1] - 1:
        start -= 1
        pairs = [(layer.keys[:, :, :start], layer.values[:, :, :start]) for layer in cache.layers]
        cache = wrap_cache(pairs) if start else None
    return {
        "input_ids": ids[:, start:], "attention_mask": mask, "position_ids": positions[:, start:], "past_key_values": cache,
    }  # fmt: skip
