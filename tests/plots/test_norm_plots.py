"""Figures of the norms: what is drawn are the frame's numbers, and an empty frame is said to be one."""

import numpy as np
import pandas as pd
import pytest

from align_utils import plots
from align_utils.plots import common

plots.use_style()
CULTURES = ["us", "model-of-some-length cn"]


def test_every_culture_has_its_line_and_its_mean():
    frame = pd.DataFrame([(c, r, 0.3 / r, 0.2 / r, 0.4 / r) for c in CULTURES for r in range(1, 15)])
    frame = frame.set_axis(["culture", "rank", "strength", "low", "high"], axis=1)
    words = frame.assign(cue="dog", response=[f"word{rank}" for rank in frame["rank"]])
    figure = plots.plot_strength_by_rank(frame, words[words["rank"] <= 7])
    for axes, culture in zip(figure.axes, CULTURES, strict=True):
        assert axes.get_title(loc="left") == f"{culture}: dog"
        assert axes.lines[0].get_ydata().tolist() == [0.3 / rank for rank in range(1, 8)]
        assert [text.get_text() for text in axes.texts] == [f"word{rank}" for rank in range(1, 6)]
    rows = [(c, b, "set size", v) for c in CULTURES for b in ("as listed", "rarefied") for v in (13, 40)]
    figure = plots.norms.plot_structure(pd.DataFrame(rows, columns=["culture", "basis", "measure", "value"]))
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["as listed", "rarefied"]
    assert [line.get_xdata()[0] for line in figure.axes[0].lines] == [26.5, 26.5]


def test_each_culture_of_a_run_has_a_colour_of_its_own_whatever_the_order():
    names = ["us", "cn", "oceania", "uk", "usf", "eat", "rp", "nl"]
    styles = []
    for order in (names, names[::-1]):
        plots.use_style(order)
        styles.append({name: common.pick_colour(name) for name in names})
    assert styles[0] == styles[1] and len(set(styles[0].values())) == 8
    assert common.pick_colour("gemma oceania") == styles[0]["oceania"], "a panel's label"
    assert styles[0]["us"] == common.COLOURS["us"] and styles[0]["cn"] == common.COLOURS["cn"]


@pytest.mark.parametrize("mutual", [True, False])
def test_directions_count_the_pairs_listed_both_ways(mutual):
    values = np.random.default_rng(0).uniform(0.004, 0.3, (200, 2))
    frame = pd.DataFrame(values, columns=["forward", "backward"]).assign(culture=np.repeat(CULTURES, 100), mutual=mutual)
    figure = plots.norms.plot_directions(frame)
    assert figure.axes[0].get_title(loc="left").startswith(f"us: {100 * mutual} of 100 pairs")
    assert figure.axes[0].collections[0].get_array().sum() == 100 * mutual


def test_intervals_stand_beside_their_label_and_n():
    frame = pd.DataFrame({"label": ["a", "b"], "value": [0.2, 0.4], "low": [0.1, 0.2], "high": [0.5, 0.5], "n": [3, 4]})
    figure = plots.plot_intervals(frame, value_label="x", title="t", zero=True)
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a (n=3)", "b (n=4)"]
    assert axes.lines[0].get_xdata().tolist() == [0.2, 0.4] and not figure.legends
    ends = [segment[:, 0].tolist() for segment in axes.collections[0].get_segments()]
    assert ends == [pytest.approx([0.1, 0.5]), pytest.approx([0.2, 0.5])]
    assert plots.plot_intervals(frame.head(0), value_label="x", title="t").texts[0].get_text() == "t: nothing to compare"
