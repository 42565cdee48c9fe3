"""Prompts and lists."""

import pandas as pd
import pytest

from align_utils import prompts


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
    assert text == "You are X.\nHow?\n1. Always\n2.\n3. Never\nMy answer is option"
    opened = prompts.build_survey_prompt(english, "How?", ["Never", "Always"], [0, 1], lead=english.text_lead)
    assert opened == "How?\n1. Never\n2. Always\nAnswer:"
