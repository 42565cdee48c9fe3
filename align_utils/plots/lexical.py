"""Figures of associations: precision, ratings, populations."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

from align_utils.plots.common import COLOURS, draw_nothing, mark_figure, name_condition, pick_colour, put_legend_below


def plot_precision(frame: pd.DataFrame, *, mark: str = ""):
    """Precision@K curves with 95 % intervals, a row a reading and a column a culture.

    Parameters
    ----------
    frame : DataFrame
        `culture, reading, stage, k, value, low, high, n`; stages `human`, `frequency` and `chance` are drawn dashed.
    """
    cultures, readings = list(dict.fromkeys(frame["culture"])), list(dict.fromkeys(frame["reading"]))
    figure, grid = plt.subplots(
        len(readings), len(cultures), figsize=(3.4 * len(cultures) + 0.6, 2.6 * len(readings) + 0.7), sharex=True, sharey=True,
        squeeze=False,
    )  # fmt: skip
    for row, reading in zip(grid, readings, strict=True):
        for axes, culture in zip(row, cultures, strict=True):
            part = frame[(frame["culture"] == culture) & (frame["reading"] == reading)]
            for number, (stage, line) in enumerate(part.groupby("stage", sort=False)):
                style = "--" if stage in {"human", "frequency", "chance"} else "-"
                x = line["k"] * 1.02 ** (number - 3)
                errors = np.abs(line[["low", "high"]].to_numpy().T - line["value"].to_numpy())
                axes.errorbar(
                    x,
                    line["value"],
                    yerr=errors,
                    fmt=f"o{style}",
                    ms=3.5,
                    lw=1.2,
                    color=pick_colour(stage),
                    label=name_condition(stage),
                )
            axes.set_title(f"{culture}, {reading} (n={part['n'].max():.0f} cues)")
            axes.set(xscale="log", ylim=(0, None))
            ks = sorted(frame["k"].unique())
            axes.set_xticks(ks, map(str, ks))
            axes.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
        row[0].set_ylabel("Precision@K")
    for axes in grid[-1]:
        axes.set_xlabel("K")
    put_legend_below(figure, max(grid.ravel(), key=lambda axes: len(axes.get_legend_handles_labels()[1])))
    return mark_figure(figure, mark)


RATING_STAGES = ("human", "human_top5", "few_shot", "sft", "ppo", "rloo", "grpo")


def plot_ratings(frame: pd.DataFrame, *, stages: Sequence[str] = RATING_STAGES, mark: str = ""):
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


POPULATION_PANELS = {
    "precision_top": "precision of the five strongest\n(people's five strongest)", "shared_mass": "shared mass",
    "js_distance": "Jensen-Shannon distance\n(0 = alike)", "distinct": "distinct responses a cue\n(diamond: people, equal number)",
}  # fmt: skip
# Share of an axis left free before 0 and beyond 1, so that a marker there is drawn whole.
ROOM = 0.04


def plot_population(frame: pd.DataFrame, *, mark: str = ""):
    """Simulated participants beside panels of people: a row a culture, a column a measure, a line a stage.

    Parameters
    ----------
    frame : DataFrame
        `culture, measure, stage, value, low, high, n`; of its measures those of PANELS are drawn, and `distinct_gap` gives the
        diamonds (people at the same number of responses). An empty frame makes a figure that says so.
    mark : str
        Watermark.

    Returns
    -------
    matplotlib.figure.Figure
    """
    cultures, stages = list(dict.fromkeys(frame["culture"])), list(dict.fromkeys(frame["stage"]))
    if not cultures:
        return draw_nothing("no simulated participants in this run", mark=mark)
    figure, grid = plt.subplots(
        len(cultures), len(POPULATION_PANELS), figsize=(2.3 * len(POPULATION_PANELS) + 1.6, (0.27 * len(stages) + 0.6) * len(cultures) + 0.8),
        sharex="col", sharey=True, squeeze=False,
    )  # fmt: skip
    for row, culture in zip(grid, cultures, strict=True):
        part = frame[frame["culture"] == culture]
        for axes, (measure, label) in zip(row, POPULATION_PANELS.items(), strict=True):
            values = part[part["measure"] == measure].set_index("stage")
            for place, stage in enumerate(stages):
                if stage in values.index:
                    value, low, high = values.loc[stage, ["value", "low", "high"]]
                    errors = np.abs([[low - value], [high - value]])
                    axes.errorbar(value, place, xerr=errors, fmt="o", ms=4.5, color=pick_colour(stage))
            if measure == "distinct":
                gaps = part[part["measure"] == "distinct_gap"].set_index("stage")["value"]
                expected = (values["value"] - gaps).dropna()
                places = [stages.index(stage) for stage in expected.index]
                axes.plot(expected, places, "D", ms=5, mfc="none", mec=COLOURS["human"], ls="none")
            if culture == cultures[-1]:
                axes.set_xlabel(label)
            axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
            axes.grid(axis="y", visible=False)
        counts = part[part["measure"] == "precision_top"]["n"]
        row[0].set_title(f"{culture} (n={counts.max():.0f} cues)", loc="left")
    # Once all cultures are drawn, for a limit that is set ends the growing of the axis that a column shares.
    for axes, measure in zip(grid[0], POPULATION_PANELS, strict=True):
        high = axes.get_xlim()[1] if measure == "distinct" else 1 + ROOM
        axes.set_xlim(-ROOM * high, high)
    grid[0][0].set_yticks(range(len(stages)), [name_condition(stage) for stage in stages])
    grid[0][0].set_ylim(len(stages) - 0.5, -0.5)
    return mark_figure(figure, mark)
