"""The likeliest list for many prompts at once, and the rule that no response of a list comes twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from transformers import Cache

from align_utils.config.settings import Language
from align_utils.models.decode import Batch, continue_rows, find_stop_tokens, penalise, place_inputs, read_batch, wrap_cache
from align_utils.models.logprobs import project_positions
from align_utils.models.prompts import SEPARATORS
from align_utils.store.steps import progress


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
