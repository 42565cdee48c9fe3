"""Log-probabilities of what goes on from prompts: each prompt is read once, and its continuations are read from its cache."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch

from align_utils.prefix import read_batch, wrap_cache

Tokens = tuple[int, ...]


def score_tails(
    model, pad: int, asked: Sequence[tuple[Tokens, Sequence[Tokens]]], *, batch_tokens: int
) -> list[list[np.ndarray]]:
    """Log-probability of every token of every tail after its context.

    What the contexts have in common is read once, then each context once, then the tails, short ones first, from copies of
    their context's cache. The output layer works at the scored positions alone.

    Parameters
    ----------
    asked : sequence of (context, tails)
        Token ids; neither a context nor a tail is empty.
    batch_tokens : int
        Tokens, those of the cache included, that go through the model together.

    Returns
    -------
    list of list of ndarray
        As `asked`: for each tail its tokens' natural log-probabilities, float64 of shape (tail length,).
    """
    order = sorted(range(len(asked)), key=lambda i: len(asked[i][0]))
    size = max(1, batch_tokens // len(asked[order[-1]][0])) if order else 1
    results: list[list[np.ndarray]] = [[] for _ in asked]
    for start in range(0, len(order), size):
        part = order[start : start + size]
        logs = _read_contexts(model, pad, [asked[i] for i in part], batch_tokens)
        for row, index in enumerate(part):
            results[index] = [
                np.array([logs[row, tail[:end]][tail[end]] for end in range(len(tail))]) for tail in asked[index][1]
            ]
    return results


@torch.inference_mode()
def _read_contexts(model, pad: int, asked: Sequence[tuple[Tokens, Sequence[Tokens]]], batch_tokens: int) -> dict:
    # What is asked of each (row, beginning of a tail): the tokens that go on from it.
    nodes: dict[tuple[int, Tokens], dict[int, None]] = {}
    for row, (_, tails) in enumerate(asked):
        for tail in tails:
            for end, token in enumerate(tail):
                nodes.setdefault((row, tail[:end]), {})[token] = None
    # A beginning that another goes through is read with it.
    inner = {(row, path[:end]) for row, path in nodes for end in range(len(path))}
    heads = sorted((node for node in nodes if node not in inner and node[1]), key=lambda node: len(node[1]))

    given = read_batch(model, pad, [context for context, _ in asked])
    output = model(
        input_ids=given.ids[:, given.shared :], attention_mask=given.mask, position_ids=given.positions[:, given.shared :],
        past_key_values=given.cache, logits_to_keep=1, use_cache=bool(heads) or given.cache is not None,
    )  # fmt: skip
    logs: dict[tuple[int, Tokens], dict[int, float]] = {}
    _keep(logs, nodes, [(row, ()) for row in range(len(asked))], output.logits[:, -1])
    width = given.ids.shape[1]
    size = max(1, batch_tokens // (width + max((len(path) for _, path in heads), default=0)))
    for start in range(0, len(heads), size):
        part = heads[start : start + size]
        cache = _copy_rows(wrap_cache(output.past_key_values), torch.tensor([row for row, _ in part], device=given.ids.device))
        _keep(logs, nodes, *_read_heads(model, pad, given, cache, part, nodes, logs))
    return logs


def _read_heads(model, pad: int, given, cache, heads: Sequence[tuple[int, Tokens]], nodes: dict, logs: dict):
    """The beginnings that end within these heads and are still to be read, and the logits after each."""
    device, width = given.ids.device, max(len(path) for _, path in heads)
    rows = torch.tensor([row for row, _ in heads], device=device)
    ids = torch.tensor([[*path, *[pad] * (width - len(path))] for _, path in heads], device=device)
    real = torch.tensor([[place < len(path) for place in range(width)] for _, path in heads], device=device)
    wanted = torch.zeros_like(real)
    found: dict[tuple[int, Tokens], None] = {}
    for index, (row, path) in enumerate(heads):
        for end in range(1, len(path) + 1):
            node = (row, path[:end])
            if node in nodes and node not in logs and node not in found:
                found[node], wanted[index, end - 1] = None, True
    # Only the wanted positions reach the output layer, which is the dear part in a vocabulary of 262,144.
    hook = model.get_output_embeddings().register_forward_pre_hook(lambda _, args: (args[0][wanted],))
    try:
        logits = model(
            input_ids=ids, attention_mask=torch.cat([given.mask[rows], real.to(given.mask)], dim=1),
            position_ids=given.positions[rows, -1:] + 1 + torch.arange(width, device=device), past_key_values=cache,
        ).logits  # fmt: skip
    finally:
        hook.remove()
    # A model that multiplies with the layer's weights itself (unsloth) passes the hook by.
    return list(found), logits if logits.dim() == 2 else logits[wanted]


def _keep(logs: dict, nodes: dict, order: Sequence[tuple[int, Tokens]], logits: torch.Tensor) -> None:
    logits = logits.float()
    total = torch.logsumexp(logits, dim=-1)
    for node, scores, whole in zip(order, logits, total, strict=True):
        tokens = list(nodes[node])
        logs[node] = dict(zip(tokens, (scores[tokens] - whole).tolist(), strict=True))


def _copy_rows(cache, rows: torch.Tensor):
    """The chosen rows of a cache, a row as often as it is named; the cache itself stays as it is."""
    chosen = copy.copy(cache)
    chosen.layers = [copy.copy(layer) for layer in cache.layers]
    chosen.batch_select_indices(rows)
    return chosen
