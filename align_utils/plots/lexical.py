"""Figures of associations: precision, ratings, populations."""

import matplotlib
import pandas as pd

from align_utils.plots.common import (
    draw_nothing,
    make_grid,
    mark_figure,
    measure_errors,
    name_condition,
    pick_colour,
    put_legend_below,
    put_title,
)

RATING_STAGES = ("human", "human_top5", "few_shot", "sft", "ppo", "rloo", "grpo")
POPULATION_PANELS = {
    "precision_top": "precision of the five strongest\n(people's five strongest)", "shared_mass": "shared mass",
    "js_distance": "Jensen-Shannon distance\n(0 = alike)", "distinct": "distinct responses a cue\n(diamond: people, equal number)",
}  # fmt: skip
# Of the headline figure: what has a dot with an interval, and what a line with its name.
SHOWN, REFERENCES = ("few_shot", "sft", "ppo"), ("human", "graph", "frequency", "chance")
# Share of an axis left free before 0 and beyond 1, so that a marker there is drawn whole.
ROOM = 0.04


def plot_precision(frame: pd.DataFrame, *, mark: str = ""):
    """Precision@5 before and after tuning, a panel a culture; what needs no model is a thin line with its name.

    `frame`: `culture` (name of the panel), `stage, value, low, high, n`, of one reading, one row a culture and stage.
    """
    cultures, top = list(frame["culture"].unique()), frame[["value", "high"]].max().max() * 1.05
    figure, grid = make_grid(len(cultures), 1, width=3.9, height=2.0, sharex=True)
    for axes, culture in zip(grid[:, 0], cultures, strict=True):
        part = frame[frame["culture"] == culture].set_index("stage")
        shown = [stage for stage in SHOWN if stage in part.index]
        lines = part.loc[[stage for stage in REFERENCES if stage in part.index]].sort_values("value", ascending=False)
        size = part.loc[shown, "n"].max()
        _draw_stages(axes, part, shown, ms=6, lw=2)
        # Each name stands in a row of its own, on the side where there is room.
        for place, (stage, line) in enumerate(lines.iterrows(), start=len(shown)):
            axes.plot([line["value"]] * 2, [-0.5, place], color=pick_colour(stage), lw=1)
            right = line["value"] < 0.6 * top
            fewer = "" if line["n"] == size else f" ({line['n']:.0f} concepts)"
            text = f"{name_condition(stage)} {line['value']:.2f}{fewer}"
            axes.annotate(
                text, (line["value"], place), (4 if right else -4, 0), textcoords="offset points", va="center", fontsize=8,
                ha="left" if right else "right", color=pick_colour(stage),
            )  # fmt: skip
        axes.set_yticks(
            range(len(shown)), [name_condition(stage).replace(", ", ",\n") for stage in shown], fontsize=8, linespacing=0.9
        )
        axes.set(ylim=(len(shown) + len(lines) - 0.4, -0.6), xlim=(0, top), title=f"{culture} ({size:.0f} concepts)")
    grid[-1][0].set_xlabel("Precision@5: share of the first five words\nthat a native speaker said too")
    put_title(figure, "Do they say what native speakers say?")
    return mark_figure(figure, mark)


def _draw_stages(axes, part: pd.DataFrame, stages: list[str], **style) -> None:
    """Estimates with intervals of those of `stages` that `part`, indexed by stage, has: each in its row, the first at the top."""
    for place, stage in enumerate(stages):
        if stage in part.index:
            one = part.loc[[stage]]
            axes.errorbar(one["value"], [place], xerr=measure_errors(one), fmt="o", color=pick_colour(stage), **style)
    axes.grid(axis="y", visible=False)


def plot_rating_gaps(frame: pd.DataFrame, *, mark: str = ""):
    """How far the words of stages lie from people's on each rating scale; the band is the margin within which they count as level.

    `frame`: `culture` (name of the column), `rating, stage, value, low, high, margin` (`ratings.judge_human_level`, with 90 %
    intervals).
    """
    if frame.empty:
        return draw_nothing("no ratings of words in this run", mark=mark)
    cultures, ratings = list(frame["culture"].unique()), list(frame["rating"].unique())
    stages = [stage for stage in ("human_top5", *SHOWN) if stage in set(frame["stage"])]
    figure, grid = make_grid(len(ratings), len(cultures), width=1.95, height=1.1, sharex="row", sharey=True)
    figure.set_figwidth(figure.get_figwidth() + 1.0)  # the names of the stages
    for row, rating in zip(grid, ratings, strict=True):
        for axes, culture in zip(row, cultures, strict=True):
            part = frame[(frame["rating"] == rating) & (frame["culture"] == culture)].set_index("stage")
            axes.set_title(f"{culture}: {rating}", fontsize=9)
            axes.axvline(0, color="black", lw=0.8)
            _draw_stages(axes, part, stages, ms=4.5)
            if len(part):
                axes.axvspan(-part["margin"].iloc[0], part["margin"].iloc[0], color="gray", alpha=0.2, lw=0)
            else:
                axes.text(0.5, 0.5, "not measured", ha="center", va="center", transform=axes.transAxes)
            axes.set_yticks(
                range(len(stages)),
                [name_condition(stage).replace("before tuning, s", "untuned, s") for stage in stages],
                fontsize=8,
            )
            axes.set_ylim(len(stages) - 0.5, -0.5)
    for axes in grid[-1]:
        axes.set_xlabel("points from people's mean", fontsize=8)
    put_title(figure, "How far the words lie from people's (90 % intervals)")
    return mark_figure(figure, mark)


def plot_curves(frame: pd.DataFrame, *, mark: str = ""):
    """Precision@K curves with 95 % intervals, a row a reading and a column a culture.

    `frame`: `culture, reading, stage, k, value, low, high, n`; stages that need no model are drawn dashed.
    """
    cultures, readings, ks = (frame[column].unique() for column in ("culture", "reading", "k"))
    figure, grid = make_grid(len(readings), len(cultures), width=3.4, height=2.6, sharex=True, sharey=True)
    for row, reading in zip(grid, readings, strict=True):
        for axes, culture in zip(row, cultures, strict=True):
            part = frame[(frame["culture"] == culture) & (frame["reading"] == reading)]
            for number, (stage, line) in enumerate(part.groupby("stage", sort=False)):
                dash = "--" if stage in {"human", "graph", "frequency", "chance"} else "-"
                style = {"fmt": f"o{dash}", "ms": 3.5, "lw": 1.2, "color": pick_colour(stage), "label": name_condition(stage)}
                beside = line["k"] * 1.012 ** (number - part["stage"].nunique() / 2)
                axes.errorbar(beside, line["value"], yerr=measure_errors(line), **style)
            axes.set(xscale="log", ylim=(0, None), title=f"{culture}, {reading} (n={part['n'].max():.0f} cues)")
            axes.set_xticks(sorted(ks), map(str, sorted(ks)))
            axes.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
        row[0].set_ylabel("Precision@K")
    for axes in grid[-1]:
        axes.set_xlabel("K")
    put_legend_below(figure, max(grid.ravel(), key=lambda axes: len(axes.get_legend_handles_labels()[1])), columns=3)
    return mark_figure(figure, mark)


def plot_ratings(frame: pd.DataFrame, *, mark: str = ""):
    """Cumulative distribution over cues of each rating, people and stages on one axis: a line to the right has higher ratings.

    A line crosses the dotted half at its median. Steps instead of smoothed densities: few cues show as few. `frame`: `culture`
    (name of the row), `rating, stage, value`, one row a cue (`ratings.pair_with_people`); drawn are RATING_STAGES, in that
    order.
    """
    cultures, ratings = (list(frame[column].unique()) or [""] for column in ("culture", "rating"))
    figure, grid = make_grid(len(cultures), len(ratings), width=2.75, height=2.5, sharex="col", sharey=True)
    for row, culture in zip(grid, cultures, strict=True):
        for axes, rating in zip(row, ratings, strict=True):
            part = frame[(frame["culture"] == culture) & (frame["rating"] == rating)].dropna(subset="value")
            axes.set_title(f"{culture}: {rating}" if rating else "")
            if part.empty:
                axes.text(0.5, 0.5, "not measured\n(no ratings file)", ha="center", va="center", transform=axes.transAxes)
                continue
            for stage in RATING_STAGES:
                values = part.loc[part["stage"] == stage, "value"].to_numpy(dtype=float)
                if len(values):
                    style = {"lw": 2.0 if stage == "human" else 1.3, "ls": "--" if stage == "human_top5" else "-"}
                    axes.ecdf(values, color=pick_colour(stage), label=f"{name_condition(stage)} ({len(values)})", **style)
            axes.axhline(0.5, color="gray", lw=0.7, ls=":")
            axes.legend(loc="best", fontsize=6, handlelength=1.1, labelspacing=0.25, borderaxespad=0.2)
        row[0].set_ylabel("share of cues at or below")
    for axes in grid[-1]:
        axes.set_xlabel("mean rating of a cue's responses")
    return mark_figure(figure, mark)


def plot_population(frame: pd.DataFrame, *, mark: str = ""):
    """Simulated participants beside panels of people: a row a culture, a column a measure, a line a stage.

    `frame`: `culture, measure, stage, value, low, high, n`; of its measures POPULATION_PANELS are drawn, and `distinct_gap`
    gives the diamonds (people at the same number of responses). An empty frame makes a figure that says so.
    """
    cultures, stages = frame["culture"].unique(), list(frame["stage"].unique())
    if not stages:
        return draw_nothing("no simulated participants in this run", mark=mark)
    height = 0.27 * len(stages) + 0.6
    figure, grid = make_grid(len(cultures), len(POPULATION_PANELS), width=2.6, height=height, sharex="col", sharey=True)
    for row, culture in zip(grid, cultures, strict=True):
        part = frame[frame["culture"] == culture]
        for axes, measure in zip(row, POPULATION_PANELS, strict=True):
            values = part[part["measure"] == measure].set_index("stage")
            _draw_stages(axes, values, stages, ms=4.5)
            if measure == "distinct":
                expected = (values["value"] - part[part["measure"] == "distinct_gap"].set_index("stage")["value"]).dropna()
                places = [stages.index(stage) for stage in expected.index]
                axes.plot(expected, places, "D", ms=5, mfc="none", mec=pick_colour("human"), ls="none")
            axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        counts = part[part["measure"] == "precision_top"]["n"]
        row[0].set_title(f"{culture} (n={counts.max():.0f} cues)", loc="left")
    # Once all cultures are drawn, for a limit that is set ends the growing of the axis that a column shares.
    for column, (measure, label) in zip(grid.T, POPULATION_PANELS.items(), strict=True):
        high = column[0].get_xlim()[1] if measure == "distinct" else 1 + ROOM
        column[0].set_xlim(-ROOM * high, high)
        column[-1].set_xlabel(label)
    grid[0][0].set_yticks(range(len(stages)), [name_condition(stage) for stage in stages])
    grid[0][0].set_ylim(len(stages) - 0.5, -0.5)
    return mark_figure(figure, mark)
