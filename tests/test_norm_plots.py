"""Figures of the norms: every text stands whole inside the figure, and no legend covers an axis."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from align_utils.norms import describe
from align_utils.plots import common as common_plots
from align_utils.plots import norms as norm_plots

common_plots.use_style()
CULTURES = ["us", "model-of-some-length cn"]


def make_figure(name):
    rng = np.random.default_rng(0)
    if name == "rank":
        frame = pd.DataFrame([(c, r, 0.3 / r, 0.2 / r, 0.4 / r) for c in CULTURES for r in range(1, 15)])
        return norm_plots.plot_strength_by_rank(frame.set_axis(["culture", "rank", "strength", "low", "high"], axis=1))
    if name == "structure":
        rows = [(c, b, m, v) for c in CULTURES for b in ("as listed", "among 81 responses a cue") for m, v in (
            ("set size (distinct responses)", 13), ("set size (distinct responses)", 40), ("response entropy (bits)", 3.2))]  # fmt: skip
        return norm_plots.plot_structure(pd.DataFrame(rows, columns=["culture", "basis", "measure", "value"]))
    if name in {"directions", "narrow directions"}:
        values = rng.uniform(0.004 if name == "directions" else 0.02, 0.3, (200, 2))
        frame = pd.DataFrame(values, columns=["forward", "backward"]).assign(culture=rng.choice(CULTURES, 200), mutual=True)
        return norm_plots.plot_directions(frame)
    if name == "no directions":
        return norm_plots.plot_directions(
            pd.DataFrame({"culture": ["us"], "forward": [0.1], "backward": [0.0], "mutual": [False]})
        )
    frame = pd.DataFrame({"partner": np.repeat(describe.PARTNERS, 40), "overlap": rng.uniform(0, 1, 120) ** 4})
    means = pd.DataFrame({"partner": describe.PARTNERS, "value": 0.293, "low": 0.277, "high": 0.31, "n": 12_217})
    return norm_plots.plot_overlap(frame, means, title="Shared associations, us and cn")


def list_ticks(axis):
    """Tick labels that are drawn: those outside of the view exist too, but are not."""
    low, high = sorted(axis.get_view_interval())
    shown = [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    return [text for text in shown if text.get_visible() and text.get_text()]


def list_texts(figure):
    yield from figure.texts
    yield from figure.legends
    for axes in figure.axes:
        parts = [axes._left_title, axes.xaxis.label, axes.yaxis.label, *list_ticks(axes.xaxis), *list_ticks(axes.yaxis)]
        yield from (text for text in parts if text.get_text())


@pytest.mark.parametrize("name", ["rank", "structure", "directions", "narrow directions", "no directions", "overlap"])
def test_no_text_is_cut_and_no_tick_label_runs_into_the_next(name):
    figure = make_figure(name)
    canvas = FigureCanvasAgg(figure)  # the figure was closed, which takes its canvas away
    canvas.draw()
    renderer, frame = canvas.get_renderer(), figure.bbox
    for text in list_texts(figure):
        box = text.get_window_extent(renderer)
        inside = box.x0 >= -1 and box.x1 <= frame.x1 + 1 and box.y0 >= -1 and box.y1 <= frame.y1 + 1
        assert inside, f"{text} leaves the figure"
    for axes in figure.axes:
        boxes = sorted((text.get_window_extent(renderer) for text in list_ticks(axes.xaxis)), key=lambda box: box.x0)
        assert all(one.x1 < other.x0 for one, other in pairwise(boxes)), "tick labels overlap"
    for legend in figure.legends:
        box = legend.get_window_extent(renderer)
        assert not any(box.overlaps(axes.get_window_extent(renderer)) for axes in figure.axes)
