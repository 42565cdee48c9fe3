"""Rows of tokens grown step by step: what prompts share is read once, and a finished row leaves the batch at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from align_utils.prefix import place_inputs, read_batch, wrap_cache


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
    """Continuations of prompts; each prompt is read once, whatever the number of its copies.

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
    max_new_tokens, copies : int

    Returns
    -------
    list of list of int
        New tokens of every row, the one that ended it included.
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
    """Scores in which no response can begin with the token that an earlier response, or the cue, begins with.

    Parameters
    ----------
    scores : Tensor of shape (rows, vocabulary)
    new : Tensor of shape (rows, step)
        Tokens written so far, the prompt left out.
    boundary : int
        The token after which a response begins.
    cues : Tensor of shape (rows, n)
        Tokens with which the row's cue can begin; a row of boundary tokens forbids nothing.

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
    """One token a row from the whole softmax, by inversion, so that a row's draws are its own whatever the batch.

    Parameters
    ----------
    scores : Tensor of shape (rows, vocabulary)
    uniform : Tensor of shape (rows,)
        Numbers in [0, 1).
    temperature : float
        Above 0.

    Examples
    --------
    >>> draw_tokens(torch.tensor([[0.0, 0.0, -99.0]] * 2), torch.tensor([0.4, 0.6]), temperature=1.0).tolist()
    [0, 1]
    """
    mass = torch.softmax(scores / temperature, dim=-1).cumsum(dim=-1)
    aim = uniform.to(mass)[:, None] * mass[:, -1:]
    return torch.searchsorted(mass, aim, right=True).squeeze(1).clamp(max=scores.shape[1] - 1)
