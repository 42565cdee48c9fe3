"""Token by token: prompts read once and continued in a batch; tokens drawn, or the likeliest, with no response of a list twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from transformers import Cache, DynamicCache

from align_utils.config.settings import Language
from align_utils.models.prompts import SEPARATORS
from align_utils.store.steps import ModelError, progress


@dataclass
class Batch:
    """Prompts of a batch, the pads between their common beginning and the rest of each.

    Of shape (rows, width): `ids` of tokens, `mask` (0 where padded), `positions` (place in the row without its pads). `shared`:
    tokens of the common beginning; `cache`: the model's keys and values of it for every row, None where nothing is shared.
    """

    ids: torch.Tensor
    mask: torch.Tensor
    positions: torch.Tensor
    shared: int
    cache: Cache | None


@torch.inference_mode()
def read_batch(model, pad: int, rows: Sequence[Sequence[int]], *, keep: int = 1, ahead: int = 0) -> Batch:
    """Lay out prompts (token ids) as a batch and run the model over their common beginning once.

    The mask hides the pads and the positions pass over them, so each row is answered as if it stood alone. `ahead`: tokens that will be
    read after the prompts at most; with them, prompts of unlike length may not reach beyond the window of sliding attention (ModelError).
    """
    _check_window(model, rows, ahead, hidden=keep > 1 and ahead > 0)
    # The last `keep` tokens of the shortest are never shared, since something is read after them.
    limit, width = max(0, min(map(len, rows)) - keep), max(map(len, rows))
    shared = next((i for i in range(limit) if len({row[i] for row in rows}) > 1), limit)
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


def project_positions(model, wanted: torch.Tensor, **inputs):
    """Logits after the wanted positions alone, and the cache, which keeps the output layer, the dear part in a vocabulary of 262,144, small."""
    hook = model.get_output_embeddings().register_forward_pre_hook(lambda _, args: (args[0][wanted],))
    try:
        output = model(**inputs)
    finally:
        hook.remove()
    # A model that multiplies with the layer's weights itself (unsloth) passes the hook by.
    return output.logits if output.logits.dim() == 2 else output.logits[wanted], output.past_key_values


@torch.inference_mode()
def continue_rows(
    model, pad: int, asked: Sequence[Sequence[int]], *,
    pick: Callable[[torch.Tensor, torch.Tensor, list[int], int], torch.Tensor], ends: Callable[[int, list[int]], bool],
    max_new_tokens: int, copies: int = 1, start: tuple[Batch, Cache, torch.Tensor] | None = None,
) -> list[list[int]]:  # fmt: skip
    """New tokens of every row, the one that ended it included; each prompt is read once, whatever the number of its `copies`.

    `generate` of transformers carries every row until the last one has ended; here the model only works for rows still open.
    `asked` are token ids of the prompts. `pick` gives the next tokens from `(scores, ids, rows, step)`: scores `(open rows,
    vocabulary)` in float32, all tokens so far `(open rows, width)`, the rows' numbers, the number of the step; row `r` belongs
    to prompt `r // copies`. `ends` says whether a row is finished, from its number and its new tokens. `start` are the prompts
    as they were read already: their batch, its cache, and the scores of the first new tokens.
    """
    if start is None:
        given = read_batch(model, pad, asked, ahead=max_new_tokens)
        inputs = place_inputs(given.ids, given.mask, given.positions, given.cache, given.shared)
        output = model(**inputs, use_cache=True, logits_to_keep=1)
        start = given, wrap_cache(output.past_key_values), output.logits[:, -1].float()
    given, cache, scores = start
    ids, mask, places = given.ids, given.mask, given.positions
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
    if bool((penalties == 1).all()):
        return scores
    penalties = penalties.to(scores).unsqueeze(1)
    seen = scores.gather(1, ids)
    return scores.scatter(1, ids, torch.where(seen < 0, seen * penalties, seen / penalties))


def draw_tokens(scores: torch.Tensor, uniform: torch.Tensor, *, temperature: float) -> torch.Tensor:
    """One token a row from the whole softmax, by inversion of `uniform` in [0, 1), so that a row's draws are its own whatever the batch.

    >>> draw_tokens(torch.tensor([[0.0, 0.0, -99.0]] * 2), torch.tensor([0.4, 0.6]), temperature=1.0).tolist()
    [0, 1]
    """
    mass = torch.softmax(scores / temperature, dim=-1).cumsum(dim=-1)
    aim = uniform.to(mass)[:, None] * mass[:, -1:]
    return torch.searchsorted(mass, aim, right=True).squeeze(1).clamp(max=scores.shape[1] - 1)


def find_boundary(tokenizer, language: Language) -> int:
    """The token after which a response begins: the last of the separator, as it is tokenised between two words."""
    return tokenizer(f"a{language.separator}b")["input_ids"][-2]


def find_stop_tokens(tokenizer) -> list[int]:
    """Token ids that end a list: eos and every token that starts with a line break."""
    breaks = [index for token, index in tokenizer.get_vocab().items() if token.startswith(("\n", "Ċ", "<0x0A>"))]
    return sorted({tokenizer.eos_token_id, *breaks})


@torch.inference_mode()
def generate_texts(
    model, tokenizer, asked: Sequence[str], penalties: Sequence[float], *, max_new_tokens: int, batch: int,
    distinct: Sequence[str | None] | None = None, language: Language | None = None, full: Callable[[int, str], bool] | None = None,
    label: str = "",
) -> list[str]:  # fmt: skip
    """Greedy continuations of many prompts, in length-sorted batches; they end at the first line break or eos.

    `penalties`: repetition penalty of each prompt (over prompt and continuation, as in transformers; 1: none). `distinct`: the cue of each
    prompt whose list, in `language`, holds neither it nor a response twice (`NoRepeats`); None leaves a prompt unbound. `full`: whether
    the text of a prompt, by its number, holds all that is wanted before it ends by itself. `label` stands beside the bar.
    """
    order = sorted(range(len(asked)), key=lambda i: len(asked[i]))
    stops, texts, cues = set(find_stop_tokens(tokenizer)), [""] * len(asked), list(distinct or [None] * len(asked))
    for start in progress(range(0, len(order), batch), desc=label or "lists", unit="batch", leave=False):
        chosen = order[start : start + batch]
        settings, tokens = torch.tensor([penalties[i] for i in chosen]), [tokenizer(asked[i])["input_ids"] for i in chosen]
        rule = NoRepeats(tokenizer, language, [cues[i] for i in chosen])
        read = rule.read(model, tokens, ahead=max_new_tokens)

        def pick(scores, ids, rows, step, settings=settings, rule=rule):
            return rule.choose(penalise(scores, ids, settings[rows]), rows)

        def ends(row, new, chosen=chosen):
            return new[-1] in stops or bool(full and full(chosen[row], tokenizer.decode(new, skip_special_tokens=True)))

        new = continue_rows(
            model, tokenizer.pad_token_id, tokens, pick=pick, ends=ends, max_new_tokens=max_new_tokens, start=read,
        )  # fmt: skip
        for i, text in zip(chosen, tokenizer.batch_decode(new, skip_special_tokens=True), strict=True):
            texts[i] = text
    return texts


class NoRepeats:
    """The likeliest next token of lists in which no response is completed that is the cue, or was completed before.

    To forbid the first token of what was said would forbid every other word that begins alike (in Mandarin one good response in
    eleven); to forbid its end alone would write it on into words that nobody says. So a token that leads to a forbidden
    response counts with the best that it leads to beside that response: `P(token) * max P(way off the response's tokens |
    token)`, by the probabilities with which the response was written the first time, or with which the cue would be (read once,
    before the list). `cues` are of each prompt of a batch; None: nothing is forbidden.
    """

    def __init__(self, tokenizer, language: Language | None, cues: Sequence[str | None]):
        bound = {row: cue for row, cue in enumerate(cues) if cue is not None}
        # Of each row: the response that is being written, token by token; the responses that may not end; and for every beginning of
        # these the tokens that go on, each with its log-probability and that of the best way off.
        self.open: dict[int, list[Token]] = {row: [] for row in bound}
        self.said: dict[int, set[tuple[int, ...]]] = {row: set() for row in bound}
        self.known: dict[int, dict[tuple[int, ...], dict[int, tuple[float, float]]]] = {row: {} for row in bound}
        if bound:
            self.pad, self.endings = tokenizer.pad_token_id, find_endings(tokenizer)
            self.ends = set(self.endings.tolist())
            texts = [language.list_lead + cue for cue in bound.values()]
            self.cues = dict(zip(bound, tokenizer(texts, add_special_tokens=False)["input_ids"], strict=True))

    def read(self, model, asked: Sequence[Sequence[int]], *, ahead: int) -> tuple[Batch, Cache, torch.Tensor] | None:
        """Read the prompts (token ids), each with its cue behind it, and hide the cues again: the `start` of `continue_rows`."""
        if not self.open:
            return None
        tails = [self.cues.get(row, []) for row in range(len(asked))]
        keep = 1 + max(map(len, tails))
        rows = [[*prompt, *tail] for prompt, tail in zip(asked, tails, strict=True)]
        given = read_batch(model, self.pad, rows, keep=keep, ahead=ahead)
        self.endings = self.endings.to(model.device)
        wanted = torch.tensor([[place >= keep - 1 - len(tail) for place in range(keep)] for tail in tails], device=model.device)
        inputs = place_inputs(given.ids, given.mask, given.positions, given.cache, given.shared)
        logits, cache = project_positions(model, wanted, **inputs, use_cache=True, logits_to_keep=keep)
        # Of each row what follows the prompt, then what follows every token of the cue.
        parts = logits.float().split([1 + len(tail) for tail in tails])
        for row, tail in self.cues.items():
            logs = torch.log_softmax(parts[row], dim=-1)
            own = logs[range(len(tail)), tail].tolist()
            logs[range(len(tail)), tail] = float("-inf")
            logs[-1, self.endings] = float("-inf")
            *offs, after = logs.amax(dim=-1).tolist()
            self._forbid(row, [Token(*token) for token in zip(tail, own, offs, strict=True)], after)
            given.mask[row, given.mask.shape[1] - len(tail) :] = 0
            given.positions[row, -1] -= len(tail)
        return given, wrap_cache(cache), torch.stack([part[0] for part in parts])

    def choose(self, scores: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
        """Next token of each open row, from its scores `(open rows, vocabulary)`, which are changed; called once for every step."""
        places = [place for place, row in enumerate(rows) if row in self.open]
        if not places:
            return scores.argmax(dim=-1)
        # Row by row: a quarter of the time of all at once, where a row is as wide as a vocabulary.
        total, written = {place: float(torch.logsumexp(scores[place], dim=-1)) for place in places}, {}
        for place in places:
            row = rows[place]
            begun = tuple(token.id for token in self.open[row])
            for token, (log, off) in self.known[row].get(begun, {}).items():
                written[place, token] = float(scores[place, token])
                scores[place, token] = min(written[place, token], total[place] + log) + off
            if begun in self.said[row]:
                scores[place, self.endings] = float("-inf")
        best = scores.topk(2, dim=-1)
        values, tokens = best.values.tolist(), best.indices[:, 0].tolist()
        for place in places:
            row, token = rows[place], tokens[place]
            if token in self.ends:
                scores[place, self.endings] = float("-inf")
                self._forbid(row, self.open[row], float(scores[place].max()) - total[place])
                self.open[row] = []
            else:
                log, off = written.get((place, token), values[place][0]), values[place][1]
                self.open[row].append(Token(token, log - total[place], off - total[place]))
        return best.indices[:, 0]

    def _forbid(self, row: int, response: list[Token], off: float) -> None:
        """Note a response; `off`: log-probability of the likeliest token that would have gone on where it ended."""
        tokens = tuple(token.id for token in response)
        if tokens:
            self.said[row].add(tokens)
        for place in reversed(range(len(tokens))):
            token, known = response[place], self.known[row].setdefault(tokens[:place], {})
            known[token.id] = (known[token.id][0] if token.id in known else token.log, off)
            off = max(token.off, token.log + off)


class Token(NamedTuple):
    """A token of a response, its log-probability, and that of the likeliest other one in its place."""

    id: int
    log: float
    off: float


@lru_cache(maxsize=4)
def find_endings(tokenizer) -> torch.Tensor:
    """Ids of the tokens that end a response: those that begin with a separator or a line break, spaces aside, and the stop tokens."""
    texts = tokenizer.batch_decode([[index] for index in range(len(tokenizer))])
    ends = [index for index, text in enumerate(texts) if SEPARATORS.match(text.strip()) or text.strip(" ").startswith("\n")]
    return torch.tensor(sorted({*ends, *find_stop_tokens(tokenizer)}))
