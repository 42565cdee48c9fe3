"""Baselines without a model: by hand, and the graph against a product of matrices."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from align_utils.config.settings import Graph
from align_utils.lexical import baselines, lists
from align_utils.norms.split import CultureNorms
from align_utils.store.steps import save_frame

ROWS = [("egg", "hen", 6), ("egg", "yolk", 4), ("farm", "hen", 1), ("farm", "cow", 9), ("farm", "Egg", 2), ("hen", "wing", 9)]


def build_norms(rows):
    frame = pd.DataFrame(rows, columns=["cue", "response", "count"]).assign(n=20)
    return frame.assign(strength=frame["count"] / 20, rank=frame.groupby("cue").cumcount() + 1)


def test_frequency_and_chance(english):
    frame = build_norms([("dog", "cat", 9), ("dog", "bone", 6), ("sun", "moon", 8), ("sun", "hot", 2), ("sky", "moon", 3)])
    common = baselines.list_frequency_baseline(frame, ["sun", "sky"], ["dog"], k=1)
    assert common["responses"].tolist() == [["moon"]], "training cues only"
    chance = baselines.list_chance_baseline(frame[frame["cue"] != "sky"], ["dog", "sun"], k=2)
    assert chance["responses"].tolist() == [["moon", "hot"], ["cat", "bone"]]


def test_the_graph_by_hand(english):
    """`hen` is held out. s(egg -> hen) = 0.3 leads to yolk (0.2), s(farm -> hen) = 0.05 to cow (0.45) and egg (0.1); its own row is unseen."""
    shares = baselines.score_graph(build_norms(ROWS), ["egg", "farm"], ["hen", "moon"], english, backward=0.5)
    scores = {"egg": 0.3 * 0.5 + 0.05 * 0.1, "yolk": 0.3 * 0.2, "farm": 0.05 * 0.5, "cow": 0.05 * 0.45}
    assert shares["word"].tolist() == ["egg", "yolk", "farm", "cow"] and set(shares["cue"]) == {"hen"}
    assert shares["share"].tolist() == pytest.approx([score / sum(scores.values()) for score in scores.values()])
    listed = baselines.list_graph(shares, ["hen", "moon"]).set_index("cue")["responses"]
    assert listed["hen"] == ["egg", "yolk", "farm", "cow"] and listed["moon"] == [], "nobody gave it as a response"


words = st.sampled_from(["a", "b", "c", "d", "e", "f"])
edges = st.dictionaries(st.tuples(words, words).filter(lambda pair: pair[0] != pair[1]), st.integers(1, 9), min_size=1)


@settings(max_examples=60, deadline=None)
@given(edges, st.sampled_from([0.0, 0.3, 1.0]))
def test_the_graph_is_a_product_of_matrices(english, found, backward):
    train, cue = ["a", "b", "c"], "f"
    shares = baselines.score_graph(
        build_norms([(*pair, n) for pair, n in found.items()]), train, [cue], english, backward=backward
    )
    names = list("abcdef")
    strength = np.zeros((6, 6))
    for (start, end), count in found.items():
        if start in train:
            strength[names.index(start), names.index(end)] = count / 20
    scores = strength[:, names.index(cue)] @ (backward * np.eye(6) + strength)
    scores[names.index(cue)] = 0
    expected = {name: score / scores.sum() for name, score in zip(names, scores, strict=True) if score > 0}
    assert dict(zip(shares["word"], shares["share"], strict=True)) == pytest.approx(expected)
    assert shares["share"].round(9).is_monotonic_decreasing


def test_a_model_and_the_graph_by_hand(english):
    """Places weigh 1, 0.95, 0.9025; the graph's shares are doubled. `Egg` is said by both."""
    said = pd.DataFrame({"cue": ["hen", "moon"], "responses": [["bird", "wing", "Egg"], ["night"]]})
    shares = pd.DataFrame({"cue": ["hen"] * 2, "word": ["egg", "yolk"], "share": [0.6, 0.4]})
    merged = baselines.add_graph(said, shares, english, weight=2.0).set_index("cue")["responses"]
    assert merged["hen"] == ["egg", "bird", "wing", "yolk"] and merged["moon"] == ["night"]
    assert baselines.add_graph(said, shares, english, weight=0.0)["responses"][0] == ["bird", "wing", "egg"], "the model alone"


def test_the_weights_are_chosen_on_the_validation_cues_and_never_on_the_test_cues(cfg, tmp_path):
    """For the validation cue the way back is right, for the test cue the way on: what is chosen follows the first alone."""
    rows = [
        ("egg", "hen", 6),
        ("egg", "yolk", 4),
        ("hen", "egg", 9),
        ("tree", "leaf", 5),
        ("tree", "wood", 5),
        ("leaf", "wood", 9),
    ]
    norms = build_norms(rows)
    own = CultureNorms(norms, {"train": ["egg", "tree"], "valid": ["hen"], "test": ["leaf"]}, cfg.root)
    cfg = replace(cfg, own_runs=tmp_path)
    vars(cfg)["cultures"] = {"us": cfg.cultures["us"]}
    vars(cfg)["profile"] = cfg.profile.model_copy(
        update={"lexical": cfg.profile.lexical.model_copy(update={"graph": Graph(backward=[0, 1], weight=[0, 32])})}
    )
    for ending, cue, said in (("_valid", "hen", ["zzz"]), ("", "leaf", ["tree"])):
        rows = [["tiny", "us", "sft", cfg.profile.seed, "greedy", cue, "", said]]
        save_frame(pd.DataFrame(rows, columns=list(lists.LISTS.columns)), cfg.runs / lists.WHOLE / f"tiny_us{ending}.parquet")
    made, grid = (
        pd.concat(pair, ignore_index=True)
        for pair in zip(baselines.list_baselines(cfg, {"us": own}), baselines.join_graph(cfg, {"us": own}), strict=True)
    )
    best = grid[grid["chosen"]].set_index("stage")
    assert best.loc["graph", "backward"] == 1 and best.loc["sft_graph", ["backward", "weight"]].tolist() == [1, 32]
    assert grid[grid["stage"] == "graph"]["precision"].tolist() == [0, 0.2]
    assert made.set_index("stage")["responses"][["graph", "sft_graph"]].tolist() == [["tree", "wood"]] * 2
    assert made["stage"].tolist() == ["graph", "frequency", "chance", "sft_graph"] and set(made["cue"]) == {"leaf"}
