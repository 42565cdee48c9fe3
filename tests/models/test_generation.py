"""Decoding: lists that may not repeat themselves, by hand and against the same rule written plainly."""

import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from align_utils.models import decode, load, prompts
from align_utils.store import steps


class Words:
    """A tokenizer of single letters, for scores made by hand: `,` ends a response."""

    pad_token_id = 0

    def __call__(self, texts, add_special_tokens=True):
        return {"input_ids": [["abcd,".index(letter) for letter in text.strip()] for text in texts]}


@pytest.fixture
def by_hand(english, monkeypatch):
    """A rule over the letters a to d and the comma; what was said of the cue `d` is that it is never begun otherwise."""
    monkeypatch.setattr(decode, "find_endings", lambda _: torch.tensor([4]))
    rule = decode.NoRepeats(Words(), english, ["d"])
    rule._forbid(0, [decode.Token(3, math.log(0.1), math.log(0.5))], -20.0)

    def write(*steps):
        chances = [torch.tensor([step]).log() for step in steps]
        return "".join("abcd,"[int(rule.choose(scores.clone(), [0]))] for scores in chances)

    return write


def test_a_word_that_begins_like_an_earlier_one_is_chosen_by_what_it_leads_to(by_hand):
    """`ab` is said. Then `a` leads to `ab` and, with a chance of 0.3, elsewhere: 0.6 * 0.3 is more than the 0.1 of `c`, not than 0.2."""
    said = [[0.6, 0.1, 0.2, 0.05, 0.05], [0.1, 0.55, 0.3, 0.04, 0.01], [0.05, 0.02, 0.02, 0.01, 0.9]]
    again = [[0.1, 0.55, 0.3, 0.04, 0.01], [0.05, 0.02, 0.02, 0.01, 0.9]]
    assert by_hand(*said, [0.6, 0.1, 0.1, 0.1, 0.1], *again) == "ab,ac,"


def test_a_word_is_not_begun_again_where_another_is_likelier(by_hand):
    said = [[0.6, 0.1, 0.2, 0.05, 0.05], [0.1, 0.55, 0.3, 0.04, 0.01], [0.05, 0.02, 0.02, 0.01, 0.9]]
    assert by_hand(*said, [0.6, 0.05, 0.2, 0.1, 0.05]) == "ab,c", "0.6 * 0.3 is less than 0.2"
    # A model that repeats itself gives the word more the second time: what counts is the chance of the first time.


def test_a_word_that_the_model_is_surer_of_the_second_time_gains_nothing(by_hand):
    said = [[0.3, 0.2, 0.25, 0.2, 0.05], [0.1, 0.55, 0.3, 0.04, 0.01], [0.05, 0.02, 0.02, 0.01, 0.9]]
    assert by_hand(*said, [0.85, 0.02, 0.1, 0.02, 0.01]) == "ab,c", "0.3 * 0.3 is less than 0.1, though 0.85 * 0.3 is more"


def test_a_response_that_was_said_cannot_end_and_a_longer_one_can(by_hand):
    one = [[0.6, 0.1, 0.2, 0.05, 0.05], [0.3, 0.02, 0.03, 0.05, 0.6]]
    assert by_hand(*one, [0.97, 0.01, 0.01, 0.005, 0.005], [0.02, 0.03, 0.02, 0.03, 0.9], one[1]) == "a,ab,"


@given(st.lists(st.lists(st.floats(-6, 6), min_size=5, max_size=5), min_size=1, max_size=24))
@settings(max_examples=200, deadline=None)
def test_whatever_the_scores_no_response_is_completed_twice(english, rows):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decode, "find_endings", lambda _: torch.tensor([4]))
        rule = decode.NoRepeats(Words(), english, ["d"])
    rule._forbid(0, [decode.Token(3, -1.0, -1.0)], -1.0)
    text = "".join("abcd,"[int(rule.choose(torch.tensor([row]), [0]))] for row in rows)
    words = [word for word in text.split(",")[:-1] if word]
    assert len(set(words)) == len(words) and "d" not in words


@torch.inference_mode()
def write_plainly(model, asked, cue, endings, stops, steps):
    """The rule row by row, without batches or caches: every step reads the whole row anew."""

    def read(ids):
        return torch.log_softmax(model(torch.tensor([ids])).logits[0, -1].float(), dim=-1)

    def find_off(logs, *without):
        return max(float(log) for token, log in enumerate(logs) if token not in without)

    first, off, said = {}, {}, set()

    def note(tokens, logs, offs, after):
        said.add(tokens)
        for place in reversed(range(len(tokens))):
            first.setdefault(tokens[: place + 1], logs[place])
            off[tokens[: place + 1]] = after
            after = max(offs[place], logs[place] + after)

    reads = [read([*asked, *cue[:place]]) for place in range(len(cue) + 1)]
    note(
        tuple(cue), [float(logs[token]) for logs, token in zip(reads, cue, strict=False)],
        [find_off(logs, token) for logs, token in zip(reads, cue, strict=False)], find_off(reads[-1], *endings),
    )  # fmt: skip
    row, begun, logs_of, offs_of = [], (), [], []
    while len(row) < steps and not (row and row[-1] in stops):
        logs = read([*asked, *row])
        shown = logs.clone()
        for token in range(len(logs)):
            if (*begun, token) in off:
                shown[token] = min(float(logs[token]), first[*begun, token]) + off[*begun, token]
        if begun in said:
            shown[endings] = float("-inf")
        token = int(shown.argmax())
        row.append(token)
        if token in endings:
            if begun:
                note(begun, logs_of, offs_of, find_off(shown, *endings))
            begun, logs_of, offs_of = (), [], []
        else:
            begun, logs_of, offs_of = (*begun, token), [*logs_of, float(logs[token])], [*offs_of, find_off(shown, token)]
    return row


@pytest.mark.parametrize(("seed", "place"), [(6, 1), (25, 0), (33, 3)])
def test_distinct_lists_are_those_of_the_rule_written_plainly(cfg, english, seed, place, monkeypatch):
    model, tokenizer = load.load_base(cfg.models["tiny"], seed=seed)
    cues, stops = ["dog", "a very long cue", "狗"], set(decode.find_stop_tokens(tokenizer))
    asked = [prompts.build_list_prompt(english, cue) for cue in cues]

    def ask(batch, bound):
        return decode.generate_texts(
            model, tokenizer, asked, [1.0] * 3, max_new_tokens=24, batch=batch, distinct=bound, language=english
        )

    free = ask(3, [None] * 3)
    # A random model hardly writes separators: of what it writes often something has to be one, such that it repeats itself.
    written = Counter(token for text in free for token in tokenizer(text, add_special_tokens=False)["input_ids"])
    endings = torch.tensor(sorted({written.most_common()[place][0], *stops}))
    monkeypatch.setattr(decode, "find_endings", lambda _: endings)
    plain = []
    for text, cue in zip(asked, cues, strict=True):
        own = tokenizer(english.list_lead + cue, add_special_tokens=False)["input_ids"]
        row = write_plainly(model, tokenizer(text)["input_ids"], own, endings.tolist(), stops, 24)
        plain.append(tokenizer.decode(row, skip_special_tokens=True))
    assert ask(3, cues) == ask(1, cues) == plain
    assert free != plain, "the rule changes what is written"
    assert ask(3, [None, cues[1], None]) == [free[0], plain[1], free[2]], "one row is bound alone"


@pytest.mark.parametrize(("name", "text"), [("en", "cat, bone"), ("zh", "猫、骨")])
def test_responses_end_where_they_are_separated(cfg, name, text):
    language = cfg.languages[name]
    _, tokenizer = load.load_base(cfg.models["tiny"], seed=0)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    place = ids.index(decode.find_boundary(tokenizer, language))
    assert tokenizer.decode(ids[place + 1 :]) == text.split(language.separator)[1]
    ends = decode.find_endings(tokenizer).tolist()
    assert tokenizer.eos_token_id in ends and {
        tokenizer(mark, add_special_tokens=False)["input_ids"][-1] for mark in ",;\n"
    } <= set(ends)
    assert not set(ends) & set(tokenizer("catbone", add_special_tokens=False)["input_ids"])


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
