"""Prompts and lists."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from align_utils.models import prompts


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" cat, bone , Cat", ["cat", "bone"]),
        ("cat,\nsecond line", ["cat"]),
        ("", []),
        (", , dog", []),
        ("ice cream; hot/cold", ["ice cream", "hot", "cold"]),
    ],
)
def test_english_lists(english, text, expected):
    assert prompts.parse_list(english, text, cue="Dog") == expected


def test_chinese_lists_accept_all_separators(chinese):
    assert prompts.parse_list(chinese, "猫、骨头，宠物,狗", cue="狗") == ["猫", "骨头", "宠物"]


def test_what_is_taught_is_read_back(cfg):
    for language in cfg.languages.values():
        words = ["猫", "骨头"] if language.name == "zh" else ["cat", "ice cream"]
        assert prompts.parse_list(language, prompts.format_list(language, words), cue="x") == words


def test_lists_are_drawn_in_proportion_and_by_seed():
    frame = pd.DataFrame({"cue": "dog", "response": ["a", "b", "c"], "count": [98, 1, 1], "rank": [1, 2, 3]})
    drawn = [prompts.draw_lists(frame, ["dog"], length=1, order="sampled", seed=s)[0][0] for s in range(200)]
    assert drawn.count("a") > 180
    assert prompts.draw_lists(frame, ["dog"], length=2, order="strength", seed=0) == [["a", "b"]]
    again = [prompts.draw_lists(frame, ["dog"] * 3, length=3, order="sampled", seed=4) for _ in range(2)]
    assert again[0] == again[1]


@pytest.mark.parametrize("n", range(2, 11))
def test_option_orders_cancel_place_and_hold_both_directions(n):
    orders = prompts.list_orders(n, numeric=False)
    assert orders[0] == list(range(n)) and orders[-1] == list(range(n))[::-1]
    assert all(sorted(order) == list(range(n)) for order in orders) and len({tuple(o) for o in orders}) == len(orders)
    rotations = orders if n == 2 else orders[:-1]
    for place in range(n):
        assert sorted(order[place] for order in rotations) == list(range(n))
    assert prompts.list_orders(n, numeric=True) == [orders[0], orders[-1]]


def test_survey_prompt_names_places_and_leaves_numerals_bare(english):
    text = prompts.build_survey_prompt(english, "How?", ["Never", "2", "Always"], [2, 1, 0], persona="You are X.\n")
    assert text == f"You are X.\nHow?{english.steps_hint}\n1. Always\n2.\n3. Never\nMy answer is option"
    opened = prompts.build_survey_prompt(english, "How?", ["Never", "Always"], [0, 1], lead=english.text_lead)
    assert opened == "How?\n1. Never\n2. Always\nAnswer:"


COUNTS = st.lists(st.integers(1, 200), min_size=1, max_size=12).map(lambda counts: sorted(counts, reverse=True))


def make_norms(counts):
    words = [f"w{place}" for place in range(len(counts))]
    return pd.DataFrame({"cue": "dog", "response": words, "count": counts, "rank": range(1, len(counts) + 1)})


@given(COUNTS, st.integers(1, 14), st.integers(0, 99), st.sampled_from([1e-9, 0.3, 1.0, 2.0, 1e9]))
def test_drawn_lists_are_distinct_responses_of_the_cue(counts, length, seed, temperature):
    frame = make_norms(counts)
    (words,) = prompts.draw_lists(frame, ["dog"], length=length, order="sampled", seed=seed, temperature=temperature)
    assert len(words) == len(set(words)) == min(length, len(counts)) and set(words) <= set(frame["response"])


@given(COUNTS, st.integers(1, 14), st.integers(0, 99))
def test_a_temperature_near_zero_gives_the_order_of_strength(counts, length, seed):
    frame = make_norms(counts)
    (words,) = prompts.draw_lists(frame, ["dog"], length=length, order="sampled", seed=seed, temperature=1e-6)
    # Responses of equal strength come in any order, so it is their counts that are compared.
    drawn = frame.set_index("response").loc[words, "count"].tolist()
    assert drawn == counts[:length]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 1e6])
def test_lists_follow_strength_to_the_power_of_one_over_temperature(temperature):
    counts = np.array([60, 30, 10])
    drawn = prompts.draw_lists(make_norms(counts), ["dog"] * 3000, length=2, order="sampled", seed=7, temperature=temperature)
    shares = counts ** (1 / temperature)
    shares = shares / shares.sum()
    # Two draws without replacement: the second from what is left.
    expected = {(i, j): shares[i] * shares[j] / (1 - shares[i]) for i in range(3) for j in range(3) if i != j}
    seen = Counter((int(first[1]), int(second[1])) for first, second in drawn)
    assert chisquare([seen[pair] for pair in expected], [3000 * p for p in expected.values()]).pvalue > 1e-3


def test_temperature_one_draws_what_the_stored_adapters_were_taught():
    frame, rng = make_norms([50, 30, 15, 5]), np.random.default_rng(11)
    shares = frame["count"].to_numpy() / frame["count"].sum()
    expected = [rng.choice(frame["response"].to_numpy(), size=3, replace=False, p=shares).tolist() for _ in range(20)]
    assert prompts.draw_lists(frame, ["dog"] * 20, length=3, order="sampled", seed=11) == expected
