"""Token by token: prompts read once, lists continued in a batch, beginnings forbidden, tokens drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from transformers import Cache, DynamicCache

from align_utils.config.settings import Language
from align_utils.store.steps import ModelError, progress


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

    The mask hides the pads and the positions pass over them, so each row is answered as if it stood alone. `ahead`: tokens that will be
    read after the prompts at most; with them, prompts of unlike length may not reach beyond the window of sliding attention (ModelError).
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
    """What a model is handed to read the tokens from `start` on, after a cache of those before; tensors as in `Batch`.

    A single token takes a way of its own through unsloth's models: it is read against buffers that the layers keep, which the cache
    handed in fills but once, so that rows copied or taken away since go unseen. There the token before is read again with it.
    """
    if isinstance(cache, TupleCache) and start == ids.shape[1] - 1:
        start -= 1
        pairs = [(layer.keys[:, :, :start], layer.values[:, :, :start]) for layer in cache.layers]
        cache = wrap_cache(pairs) if start else None
    return {
        "input_ids": ids[:, start:], "attention_mask": mask, "position_ids": positions[:, start:], "past_key_values": cache,
    }  # fmt: skip


@torch.inference_mode()
def continue_rows(
    model,
    pad: int,
    asked: Sequence[Sequence[int]],
    *,
    pick: Callable[[torch.Tensor, torch.Tensor, list[int], int], torch.Tensor],
    ends: Callable[[int, list[int]], bool],
    max_new_tokens: int,
    copies: int = 1,
) -> list[list[int]]:
    """New tokens of every row, the one that ended it included; each prompt is read once, whatever the number of its `copies`.

    `generate` of transformers carries every row until the last one has ended; here the model only works for rows still open.

    Parameters
    ----------
    asked : sequence of sequence of int
        Token ids of the prompts.
    pick : callable
        Next tokens from `(scores, ids, rows, step)`: scores `(open rows, vocabulary)` in float32, all tokens so far
        `(open rows, width)`, the rows' numbers, the number of the step. Row `r` belongs to prompt `r // copies`.
    ends : callable
        Whether a row is finished, from its number and its new tokens.
    """
    given = read_batch(model, pad, asked, ahead=max_new_tokens)
    ids, mask, places = given.ids, given.mask, given.positions
    output = model(**place_inputs(ids, mask, places, given.cache, given.shared), use_cache=True, logits_to_keep=1)
    cache, scores = wrap_cache(output.past_key_values), output.logits[:, -1].float()
    if copies > 1:
        cache.batch_repeat_interleave(copies)
        scores, ids, mask, places = (part.repeat_interleave(copies, dim=0) for part in (scores, ids, mask, places))
    rows = list(range(len(ids)))
    new: list[list[int]] = [[] for _ in rows]
    for step in range(max_new_tokens):
        tokens = pick(scores, ids, rows, step)
        for row, token in zip(rows, tokens.tolist(), strict=True):
            new[row].append(token)
        still = [i for i, row in enumerate(rows) if not ends(row, new[row])]
        if not still or step + 1 == max_new_tokens:
            break
        if len(still) < len(rows):
            chosen = torch.tensor(still, device=ids.device)
            cache.batch_select_indices(chosen)
            tokens, ids, mask, places = (part[chosen] for part in (tokens, ids, mask, places))
            rows = [rows[i] for i in still]
        ids = torch.cat([ids, tokens[:, None]], dim=1)
        mask = torch.cat([mask, torch.ones_like(tokens)[:, None]], dim=1)
        places = torch.cat([places, places[:, -1:] + 1], dim=1)
        output = model(**place_inputs(ids, mask, places, cache, ids.shape[1] - 1), use_cache=True, logits_to_keep=1)
        cache, scores = wrap_cache(output.past_key_values), output.logits[:, -1].float()
    return new


def penalise(scores: torch.Tensor, ids: torch.Tensor, penalties: torch.Tensor) -> torch.Tensor:
    """transformers' repetition penalty with one value a row: scores of tokens seen, divided where positive, else multiplied."""
    penalties = penalties.to(scores).unsqueeze(1)
    seen = scores.gather(1, ids)
    return scores.scatter(1, ids, torch.where(seen < 0, seen * penalties, seen / penalties))


def forbid_beginnings(scores: torch.Tensor, new: torch.Tensor, boundary: int, cues: torch.Tensor) -> torch.Tensor:
    """Scores `(rows, vocabulary)` in which no response can begin with the token that an earlier response, or the cue, begins with.

    `new` holds the tokens written so far, the prompt left out; a response begins after `boundary`; `cues` are the tokens with which a
    row's cue can begin, boundary tokens where it forbids nothing.

    Examples
    --------
    >>> new, cues = torch.tensor([[5, 1, 6, 1], [5, 1, 6, 7]]), torch.tensor([[4], [4]])  # 1 separates; the second row is in a word
    >>> forbid_beginnings(torch.zeros(2, 8), new, 1, cues).isinf().nonzero().tolist()
    [[0, 4], [0, 5], [0, 6]]
    """
    split = new == boundary
    start = split.new_ones((len(new), 1))
    opens = torch.cat([start, split], dim=1)
    # Where no response began stands the boundary token, which is never forbidden.
    begun = torch.where(opens[:, :-1] & ~split, new, boundary)
    tokens = torch.cat([cues, begun], dim=1)
    banned = (tokens != boundary) & opens[:, -1:]
    return scores.scatter(1, torch.where(banned, tokens, boundary), torch.where(banned, float("-inf"), scores[:, [boundary]]))


def draw_tokens(scores: torch.Tensor, uniform: torch.Tensor, *, temperature: float) -> torch.Tensor:
    """One token a row from the whole softmax, by inversion of `uniform` in [0, 1), so that a row's draws are its own whatever the batch.

    Examples
    --------
    >>> draw_tokens(torch.tensor([[0.0, 0.0, -99.0]] * 2), torch.tensor([0.4, 0.6]), temperature=1.0).tolist()
    [0, 1]
    """
    mass = torch.softmax(scores / temperature, dim=-1).cumsum(dim=-1)
    aim = uniform.to(mass)[:, None] * mass[:, -1:]
    return torch.searchsorted(mass, aim, right=True).squeeze(1).clamp(max=scores.shape[1] - 1)


def find_boundary(tokenizer, language: Language) -> int:
    """The token after which a response begins: the last of the separator, as it is tokenised between two words."""
    return tokenizer(f"a{language.separator}b")["input_ids"][-2]


def find_beginnings(tokenizer, cue: str) -> list[int]:
    """First tokens of a cue, after a space and without one."""
    return [tokenizer(text, add_special_tokens=False)["input_ids"][0] for text in (f" {cue}", cue)]


def find_stop_tokens(tokenizer) -> list[int]:
    """Token ids that end a list: eos and every token that starts with a line break."""
    breaks = [index for token, index in tokenizer.get_vocab().items() if token.startswith(("\n", "Ċ", "<0x0A>"))]
    return sorted({tokenizer.eos_token_id, *breaks})


@torch.inference_mode()
def generate_texts(
    model,
    tokenizer,
    asked: Sequence[str],
    penalties: Sequence[float],
    *,
    max_new_tokens: int,
    batch: int,
    boundary: int = 0,
    beginnings: Sequence[Sequence[int]] | None = None,
    label: str = "",
) -> list[str]:
    """Greedy continuations of many prompts, in length-sorted batches; they end at the first line break or eos.

    `penalties`: repetition penalty of each prompt (over prompt and continuation, as in transformers; 1: none). `beginnings`: the first
    tokens of each prompt's cue for `forbid_beginnings`; an empty entry leaves its prompt unbound. `label` stands beside the bar.
    """
    order = sorted(range(len(asked)), key=lambda i: len(asked[i]))
    stops = set(find_stop_tokens(tokenizer))
    texts = [""] * len(asked)
    for start in progress(range(0, len(order), batch), desc=label or "lists", unit="batch", leave=False):
        chosen = order[start : start + batch]
        settings = torch.tensor([penalties[i] for i in chosen])
        own = [list(beginnings[i]) if beginnings else [] for i in chosen]
        bound = torch.tensor([bool(tokens) for tokens in own])
        cues = torch.tensor([tokens + [boundary] * (max(map(len, own)) - len(tokens)) for tokens in own], dtype=torch.long)

        def pick(scores, ids, rows, step, settings=settings, bound=bound, cues=cues):
            scores = penalise(scores, ids, settings[rows])
            mine = bound[rows].to(scores.device)
            if mine.any():
                new = ids[mine, ids.shape[1] - step :]
                scores[mine] = forbid_beginnings(scores[mine], new, boundary, cues[rows].to(ids)[mine])
            return scores.argmax(dim=-1)

        new = continue_rows(
            model, tokenizer.pad_token_id, [tokenizer(asked[i])["input_ids"] for i in chosen], pick=pick,
            ends=lambda _, tokens: tokens[-1] in stops, max_new_tokens=max_new_tokens,
        )  # fmt: skip
        for i, text in zip(chosen, tokenizer.batch_decode(new, skip_special_tokens=True), strict=True):
            texts[i] = text
    return texts
