"""Log-probabilities of what goes on from prompts, tokens or texts: each prompt is read once, its continuations from its cache."""

import copy
from collections.abc import Sequence

import numpy as np
import torch

from align_utils.models.decode import TupleCache, place_inputs, project_positions, read_batch, wrap_cache
from align_utils.store.steps import ModelError, progress

Tokens = tuple[int, ...]


def score_tails(
    model, pad: int, asked: Sequence[tuple[Tokens, Sequence[Tokens]]], *, batch_tokens: int
) -> list[list[np.ndarray]]:
    """Natural log-probability of every token of every tail after its context: for each tail an array of shape (tail length,), float64.

    Contexts of like length go through the model together, `batch_tokens` tokens at a time: what they have in common is read once, then
    each once, together with its longest tail, then the other tails, short ones first, from copies of their context's cache. The output
    layer works at the scored positions alone. Neither a context nor a tail is empty. Scores that are not finite raise ModelError.
    """
    # Long ones first: what memory does not hold is seen at once.
    order = sorted(range(len(asked)), key=lambda i: -len(asked[i][0]))
    parts: list[list[int]] = []
    while order:
        size = max(1, batch_tokens // len(asked[order[0]][0]))
        parts, order = [*parts, order[:size]], order[size:]
    results: list[list[np.ndarray]] = [[] for _ in asked]
    for part in progress(parts, desc="scoring", unit="batch", leave=False):
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
    heads = sorted((node for node in nodes if node not in inner), key=lambda node: len(node[1]))
    # The longest of a row is read together with its context, in one pass.
    trunks = dict(heads)
    rest = [(row, path) for row, path in heads if path != trunks[row]]

    rows = [(*context, *trunks[row]) for row, (context, _) in enumerate(asked)]
    keep = 1 + max(map(len, trunks.values()))
    given = read_batch(model, pad, rows, keep=keep, ahead=keep - 1 if rest else 0)
    logs: dict[tuple[int, Tokens], dict[int, float]] = {}
    order, wanted = _mark(nodes, logs, list(enumerate(trunks[row] for row in range(len(rows)))), keep, left=True)
    logits, cache = project_positions(
        model, wanted.to(given.ids.device), **place_inputs(given.ids, given.mask, given.positions, given.cache, given.shared),
        logits_to_keep=keep, use_cache=bool(rest) or given.cache is not None,
    )  # fmt: skip
    _keep(logs, nodes, order, logits)

    size = max(1, batch_tokens // (given.ids.shape[1] + keep))
    for start in range(0, len(rest), size):
        part = rest[start : start + size]
        logits, order = _read_heads(model, pad, given, _copy_rows(wrap_cache(cache), part), part, trunks, nodes, logs)
        _keep(logs, nodes, order, logits)
    return logs


def _read_heads(model, pad: int, given, cache, heads: Sequence[tuple[int, Tokens]], trunks: dict, nodes: dict, logs: dict):
    # Two columns at least where a single one would take another way (`decode.place_inputs`).
    device, width = given.ids.device, max(1 + isinstance(cache, TupleCache), *(len(path) for _, path in heads))
    ids = torch.tensor([[*path, *[pad] * (width - len(path))] for _, path in heads], device=device)
    real = torch.tensor([[place < len(path) for place in range(width)] for _, path in heads], device=device)
    rows = [row for row, _ in heads]
    mask, ends = given.mask[rows], given.positions[rows, -1:].clone()
    for index, row in enumerate(rows):
        # What was read with the context is not part of it.
        mask[index, mask.shape[1] - len(trunks[row]) :] = 0
        ends[index] -= len(trunks[row])
    order, wanted = _mark(nodes, logs, heads, width, left=False)
    logits, _ = project_positions(
        model, wanted.to(device), input_ids=ids, attention_mask=torch.cat([mask, real.to(mask)], dim=1),
        position_ids=ends + 1 + torch.arange(width, device=device), past_key_values=cache, use_cache=True, logits_to_keep=0,
    )  # fmt: skip
    return logits, order


def _mark(nodes: dict, logs: dict, heads: Sequence[tuple[int, Tokens]], width: int, *, left: bool):
    """Beginnings that end within these heads and are still to be read, in reading order, and where in `width` columns they end."""
    wanted, found = torch.zeros(len(heads), width, dtype=torch.bool), {}
    for index, (row, path) in enumerate(heads):
        for end in range(0 if left else 1, len(path) + 1):
            node = (row, path[:end])
            if node in nodes and node not in logs and node not in found:
                found[node] = None
                wanted[index, width - 1 - len(path) + end if left else end - 1] = True
    return list(found), wanted


def _keep(logs: dict, nodes: dict, order: Sequence[tuple[int, Tokens]], logits: torch.Tensor) -> None:
    logits = logits.float()
    total = torch.logsumexp(logits, dim=-1)
    if not total.isfinite().all():
        raise ModelError(
            "the model's scores are not finite numbers, so no answer can be read from them: its weights are damaged, or 16 bits are too "
            "narrow for it (float16 on a card without bfloat16)"
        )
    for node, scores, whole in zip(order, logits, total, strict=True):
        tokens = list(nodes[node])
        logs[node] = dict(zip(tokens, (scores[tokens] - whole).tolist(), strict=True))


def _copy_rows(cache, heads: Sequence[tuple[int, Tokens]]):
    """The rows of a cache that the heads go on from; the cache itself stays as it is."""
    chosen = copy.copy(cache)
    chosen.layers = [copy.copy(layer) for layer in cache.layers]
    chosen.batch_select_indices(torch.tensor([row for row, _ in heads], device=cache.layers[0].keys.device))
    return chosen


def split_texts(tokenizer, prompt: str, texts: Sequence[str]) -> tuple[Tokens, list[Tokens]]:
    """Token ids of what all texts go on from, and of each text from there.

    Prompt and text are tokenised as one string, since a tokeniser may join the end of one with the beginning of the other; where
    something is joined, the common context ends before it.

    >>> split_texts(lambda text: {"input_ids": list(map(ord, text))}, "A", ["1", "10"])
    ((65,), [(49,), (49, 48)])
    >>> split_texts(lambda text: {"input_ids": list(map(ord, text.replace(":1", "!")))}, "A:", ["1", "2"])  # ':1' is one token
    ((65,), [(33,), (58, 50)])
    """
    joined = [tuple(tokenizer(prompt + text)["input_ids"]) for text in texts]
    rows = [tuple(tokenizer(prompt)["input_ids"]), *joined]
    # A text keeps a token of its own and a context is never empty.
    limit = min(len(rows[0]), *(len(row) - 1 for row in joined))
    common = next((place for place in range(limit) if len({row[place] for row in rows}) > 1), limit)
    return rows[0][:common], [row[common:] for row in joined]


def read_texts(
    model, tokenizer, asked: Sequence[tuple[str, Sequence[str]]], *, batch_tokens: int
) -> list[list[tuple[Tokens, np.ndarray]]]:
    """Tokens and their log-probabilities of each text after its prompt, from pairs (prompt, texts); `batch_tokens` as in `score_tails`."""
    plans = [split_texts(tokenizer, prompt, texts) for prompt, texts in asked]
    scores = score_tails(model, tokenizer.pad_token_id, plans, batch_tokens=batch_tokens)
    return [list(zip(tails, logs, strict=True)) for (_, tails), logs in zip(plans, scores, strict=True)]


def exclude_longer(read: Sequence[tuple[Tokens, np.ndarray]]) -> np.ndarray:
    """Probability of each text and of none that goes on from it: of '1' without what goes on to '10'.

    >>> exclude_longer([((1,), np.log([0.5])), ((1, 0), np.log([0.5, 0.2])), ((2,), np.log([0.3]))]).round(3).tolist()
    [0.4, 0.1, 0.3]
    """
    whole = [float(np.exp(logs.sum())) for _, logs in read]
    tails = [tail for tail, _ in read]
    result = np.array(whole)
    for longer, probability in zip(tails, whole, strict=True):
        begun = [tail for tail in tails if len(tail) < len(longer) and longer[: len(tail)] == tail]
        # Of 'a', 'ab' and 'abc' only 'ab' is taken from 'a': 'abc' is part of it.
        nearest = max(begun, key=len, default=None)
        result -= [probability * (tail == nearest) for tail in tails]
    return np.maximum(result, 0.0)
