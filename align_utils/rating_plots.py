"""Figure of the ratings: distributions over cues of people and stages on one axis."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

from align_utils.plots import mark_figure, name_condition, pick_colour

STAGES = ("human", "human_top5", "few_shot", "sft", "ppo", "rloo", "grpo")


def plot_ratings(frame: pd.DataFrame, *, stages: Sequence[str] = STAGES, mark: str = ""):
    """Cumulative distribution over cues of each rating, people and stages on one axis: a line to the right has higher ratings.

    A line crosses the dotted half at its median. Steps instead of smoothed densities: few cues show as few.

    Parameters
    ----------
    frame : DataFrame
        `culture` (name of the row), `rating, stage, value`, one row a cue (`rating_conditions.pair_with_people`).
    stages : sequence of str
        Those to draw, in this order; the others of the frame are left out.
    mark : str
        Watermark.

    Returns
    -------
    matplotlib.figure.Figure
    """
    cultures, ratings = (list(dict.fromkeys(frame[column])) or [""] for column in ("culture", "rating"))
    size = (2.75 * len(ratings) + 0.5, 2.5 * len(cultures) + 0.5)
    figure, grid = plt.subplots(len(cultures), len(ratings), figsize=size, sharex="col", sharey=True, squeeze=False)
    for row, culture in zip(grid, cultures, strict=True):
        for axes, rating in zip(row, ratings, strict=True):
            part = frame[(frame["culture"] == culture) & (frame["rating"] == rating)].dropna(subset="value")
            axes.set_title(f"{culture}: {rating}" if rating else "")
            if part.empty:
                axes.text(0.5, 0.5, "not measured\n(no ratings file)", ha="center", va="center", transform=axes.transAxes)
                continue
            for stage in stages:
                values = np.sort(part.loc[part["stage"] == stage, "value"].to_numpy(dtype=float))
                people = stage == "human"
                if len(values):
                    axes.ecdf(
                        values,
                        color=pick_colour(stage),
                        lw=2.0 if people else 1.3,
                        ls="--" if stage == "human_top5" else "-",
                        label=f"{name_condition(stage)} ({len(values)})",
                    )
            axes.axhline(0.5, color="gray", lw=0.7, ls=":")
            axes.legend(loc="best", fontsize=6, handlelength=1.1, labelspacing=0.25, borderaxespad=0.2)
        row[0].set_ylabel("share of cues at or below")
    for axes in grid[-1]:
        axes.set_xlabel("mean rating of a cue's responses")
    return mark_figure(figure, mark)
