"""Decoding: lists that may not repeat themselves, against transformers' own generate with the same rule written plainly."""

import itertools
from collections import Counter

import pytest
from transformers import LogitsProcessor, LogitsProcessorList

from align_utils.models import decode, load, prompts
from align_utils.store import steps


class Rule(LogitsProcessor):
    """Row by row: what begins a response must not have begun one before, nor the cue."""

    def __init__(self, width, boundary, cues):
        self.width, self.boundary, self.cues = width, boundary, cues

    def __call__(self, input_ids, scores):
        for row, ids in enumerate(input_ids[:, self.width :].tolist()):
            if not ids or ids[-1] == self.boundary:
                before = [self.boundary, *ids]
                begun = {token for last, token in itertools.pairwise(before) if last == self.boundary}
                for token in (begun | set(self.cues[row])) - {self.boundary}:
                    scores[row, token] = float("-inf")
        return scores


@pytest.mark.parametrize("seed", [6, 7, 8])
def test_distinct_lists_are_those_of_generate_under_the_same_rule(cfg, english, seed):
    model, tokenizer = load.load_base(cfg.models["tiny"], seed=seed)
    cues = ["dog", "a very long cue", "狗"]
    asked, penalties = [prompts.build_list_prompt(english, cue) for cue in cues], [1.2, 1.1, 1.0]

    def ask(batch, beginnings, boundary):
        return decode.generate_texts(
            model, tokenizer, asked, penalties, max_new_tokens=24, batch=batch, boundary=boundary, beginnings=beginnings
        )

    free = ask(3, [[], [], []], 0)
    # A random model hardly writes separators or cues: what it writes often, and first, has to be one.
    written = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in free]
    boundary = Counter(token for ids in written for token in ids).most_common(1)[0][0]
    beginnings = [list(dict.fromkeys(ids))[:2] for ids in written]
    plain = []
    for text, own, penalty in zip(asked, beginnings, penalties, strict=True):
        ids = tokenizer(text, return_tensors="pt")
        width = ids["input_ids"].shape[1]
        row = model.generate(
            **ids, do_sample=False, max_new_tokens=24, eos_token_id=decode.find_stop_tokens(tokenizer),
            pad_token_id=tokenizer.pad_token_id, repetition_penalty=penalty,
            logits_processor=LogitsProcessorList([Rule(width, boundary, [own])]),
        )[0, width:]  # fmt: skip
        plain.append(tokenizer.decode(row, skip_special_tokens=True))
    assert ask(3, beginnings, boundary) == ask(1, beginnings, boundary) == plain
    assert free != plain, "the rule changes what is written"
    assert ask(3, [[], beginnings[1], []], boundary) == [free[0], plain[1], free[2]], "one row is bound alone"


@pytest.mark.parametrize(("name", "text"), [("en", "cat, bone"), ("zh", "猫、骨")])
def test_the_boundary_stands_before_every_further_response(cfg, name, text):
    language = cfg.languages[name]
    _, tokenizer = load.load_base(cfg.models["tiny"], seed=0)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    place = ids.index(decode.find_boundary(tokenizer, language))
    assert tokenizer.decode(ids[place + 1 :]) == text.split(language.separator)[1]
    assert tokenizer.decode(decode.find_beginnings(tokenizer, "cat")[1:]) == "c"


def test_prompts_beyond_the_attention_window_are_refused_beside_shorter_ones(cfg):
    from align_utils.models import logprobs

    model, tokenizer = load.load_base(cfg.models["tiny"], seed=0)
    long, short = tuple(tokenizer("a" * 600)["input_ids"]), tuple(tokenizer("a" * 20)["input_ids"])
    assert model.config.sliding_window == 512
    logprobs.score_tails(model, tokenizer.pad_token_id, [(long, [(300,)])], batch_tokens=2000)
    refused = pytest.raises(steps.ModelError, match=r"longer than the model's attention window \(512\)")
    with refused:
        logprobs.score_tails(model, tokenizer.pad_token_id, [(short, [(300,)]), (long, [(300,)])], batch_tokens=2000)
    # What is generated counts too.
    near = tuple(tokenizer("a" * 500)["input_ids"])
    settings = {"pick": lambda scores, *_: scores.argmax(-1), "ends": lambda *_: False}
    for asked, more in (([near, short], 5), ([near, near], 30)):
        decode.continue_rows(model, tokenizer.pad_token_id, asked, max_new_tokens=more, **settings)
    with refused:
        decode.continue_rows(model, tokenizer.pad_token_id, [near, short], max_new_tokens=30, **settings)
