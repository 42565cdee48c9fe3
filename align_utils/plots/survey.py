"""Figures of the survey: answers, items, counts, styles, map."""

import textwrap
from collections.abc import Mapping

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from align_utils.config.stages import TARGETS
from align_utils.plots.common import (
    draw_nothing,
    draw_rows,
    make_grid,
    mark_figure,
    measure_errors,
    name_condition,
    pick_colour,
    put_legend_below,
    put_title,
)

LINES = {"zero_shot": ("o--", name_condition("zero_shot"))} | {
    stage: (f"{shape}-", name_condition(stage)) for stage, shape in zip(TARGETS, "sD^v", strict=True)
}


def plot_answers(frame: pd.DataFrame, *, mark: str = ""):
    """Heatmap of mean answers, items down, answerers across, scale ends at 0 and 1.

    `frame`: index `question`, one column an answerer, values in [0, 1].
    """
    figure, axes = plt.subplots(figsize=(0.62 * frame.shape[1] + 2.2, 0.145 * len(frame) + 1.8))
    bar = {"shrink": 0.5, "label": "mean answer"}
    sns.heatmap(frame, ax=axes, cmap="RdYlBu_r", vmin=0, vmax=1, xticklabels=False, yticklabels=False, cbar_kws=bar)
    axes.grid(False)
    axes.set_yticks(np.arange(len(frame)) + 0.5, frame.index, fontsize=6)
    axes.set_xticks(np.arange(frame.shape[1]) + 0.5, frame.columns, rotation=60, ha="right", fontsize=7)
    axes.set(xlabel="", ylabel="", title="Mean answer (0 = first point of the scale, 1 = last)")
    return mark_figure(figure, mark)


def plot_items(frame: pd.DataFrame, *, title: str, mark: str = ""):
    """Small multiples of questions (six stay readable): people's shares as bars, a model's answers before and after as lines over them.

    `frame`: `panel, place, answerer, share, first, last` (`survey.panels.list_panels`).
    """
    if frame.empty:
        return draw_nothing(f"{title}: no items", mark=mark)
    panels = list(frame.groupby("panel", sort=False))
    columns = 2 if len(panels) > 2 else 1
    figure, grid = make_grid(-(-len(panels) // columns), columns, width=3.7, height=2.5)
    people = [name for name in frame["answerer"].unique() if name not in LINES]
    width = 0.8 / len(people)
    for axes, (panel, part) in zip(grid.ravel(), panels, strict=False):
        for name, line in part.groupby("answerer", sort=False):
            if name in LINES:
                style, label = LINES[name]
                axes.plot(line["place"], line["share"], style, ms=4, lw=1.5, color=pick_colour(name), label=label, zorder=3)
            else:
                x = line["place"] + (people.index(name) - (len(people) - 1) / 2) * width
                axes.bar(x, line["share"], width, color=pick_colour(name), alpha=0.45, label=f"people, {name}")
        item, last = part.iloc[0], part["place"].max()
        axes.set_title(textwrap.fill(panel, 52), fontsize=8)
        axes.set(xticks=range(last + 1), xticklabels=[], xlim=(-0.6, last + 0.6), ylim=(0, None))
        axes.locator_params(axis="y", nbins=4)
        axes.grid(axis="x", visible=False)
        for x, end, side in ((0, "first", "left"), (1, "last", "right")):
            axes.text(x, -0.05, textwrap.fill(item[end], 26), transform=axes.transAxes, ha=side, va="top", fontsize=8)
    for axes in grid.ravel()[len(panels) :]:
        axes.remove()
    for row in grid:
        row[0].set_ylabel("share")
    put_title(figure, textwrap.fill(title, 52 * columns))
    put_legend_below(figure, grid[0][0], columns=2 * columns)
    return mark_figure(figure, mark)


def plot_counts(frame: pd.DataFrame, *, title: str, known: Mapping[str, float], mark: str = ""):
    """Shares of the chosen items with their intervals, an answerer a row; what even answers get lies at the dotted line.

    `frame`: `label, stage` (colour; 'uniform' gives the line), `value, low, high, count, n`, from `survey.aligned.list_sides`. `known`:
    shares that others have published, by what is written at their line.
    """
    if frame.empty:
        return draw_nothing(f"{title}: no two countries to compare", mark=mark)
    figure, (axes,) = draw_rows({"": frame.assign(group=frame["stage"])}, title=title, colour=pick_colour)
    for name, share in known.items():
        axes.axvline(share, color="black", lw=0.8, ls="--")
        axes.text(share, -0.7, name, ha="center", va="bottom", fontsize=8)
    for y, row in enumerate(frame.itertuples()):
        axes.text(1.03, y, f"{row.count:.3g}/{row.n}", va="center", fontsize=7)
    for even in frame.loc[frame["stage"] == "uniform", "value"]:
        axes.axvline(even, color="black", lw=0.8, ls=":")
    axes.set(xlim=(-0.03, 1.16), xlabel="share of the chosen items", xticks=[0, 0.25, 0.5, 0.75, 1])
    return mark_figure(figure, mark)


def plot_styles(frame: pd.DataFrame, *, mark: str = ""):
    """Response styles with intervals over items, a panel a style, an answerer a row; even answers lie at the dotted line.

    `frame`: `label, style, stage` (colour; 'uniform' gives the line), `value, low, high, n`, from
    `survey.styles.summarise_styles`.
    """
    styles = dict(tuple(frame.assign(group=frame["stage"]).groupby("style", sort=False)))
    panels = {f"{style} ({part['n'].max():.0f} items)": part for style, part in styles.items()}
    figure, all_axes = draw_rows(panels, title="Response styles; dotted: even answers", colour=pick_colour)
    for axes, (style, part) in zip(all_axes, styles.items(), strict=True):
        for even in part.loc[part["stage"] == "uniform", "value"]:
            axes.axvline(even, color="black", lw=0.8, ls=":")
        axes.set_xlabel("agree minus disagree" if style == "acquiescence" else "share of answers")
    return mark_figure(figure, mark)


def plot_map(frame: pd.DataFrame, axes_names: tuple, *, countries: pd.DataFrame, mark: str = ""):
    """The map: people and models on both axes, beside it enlarged a panel a language, with arrows from the untuned model to SFT and on.

    `frame` is from `survey.map.summarise_places`, of one model and persona beside the references; of `axes_names` (`load_axes`)
    the second axis runs across, the first one upward; `countries` (`list_countries`) are labelled points, or empty: the two
    indices.
    """
    up, across = (axis.name for axis in axes_names)
    missing = sorted({up, across} - set(frame.dropna(subset="value")["axis"]))
    if missing:
        return draw_nothing(f"the map needs items of both axes;\nthis run has none of {' and '.join(missing)}", mark=mark)
    world = len(countries) > 0
    index = ["adapter", "stage", "language"]
    wide = frame.pivot(index=index, columns="axis", values="value")[[across, up]]
    models = wide[wide.index.get_level_values("language") != "none"]
    languages = models.index.get_level_values("language").unique()
    figure = plt.figure(figsize=(10.8, max(6.9 if world else 5.6, 2.8 * len(languages))))
    grid = figure.add_gridspec(len(languages), 2, width_ratios=[7.4, 3.4])
    whole = figure.add_subplot(grid[:, 0])
    if world:
        _draw_countries(whole, countries, wide, across, up)
        title = "The factor construction of Inglehart and Welzel, fitted to this file's respondents"
        whole.set_title(f"{len(countries)} countries of the file and the models")
    else:
        for culture, part in frame[frame["stage"] == "human"].set_index("axis").groupby("adapter"):
            part = part.loc[[across, up]]
            errors = measure_errors(part)
            style = {"fmt": "s", "ms": 8, "lw": 1, "color": pick_colour(culture), "label": f"people, {culture}"}
            whole.errorbar(*part["value"], xerr=errors[:, :1], yerr=errors[:, 1:], **style)
        whole.set(xlim=(0, 1), ylim=(0, 1), title="everyone (intervals: over components)")
        told = frame.groupby("axis")[["n", "items"]].max()
        told = [f"{told.loc[axis, 'n']:.0f} components ({told.loc[axis, 'items']:.0f} items)" for axis in (across, up)]
        title = "Two indices in the manner of Inglehart and Welzel, not their published coordinates"
        title += f"\n{told[0]} across and {told[1]} upward"
    even = wide[wide.index.get_level_values("stage") == "uniform"]
    whole.plot(even[across], even[up], "x", ms=7, color=pick_colour("uniform"), zorder=5, ls="", label="even answers")
    for number, language in enumerate(languages):
        part = models.xs(language, level="language")
        _draw_paths(whole, part)
        at = part.loc[("none", "zero_shot")]
        whole.annotate(language, at, (0, (7, -13)[number % 2]), textcoords="offset points", fontsize=8, ha="center", zorder=6)
        axes = figure.add_subplot(grid[number, 1])
        _draw_paths(axes, part)
        span = 1.3 * np.ptp(part.to_numpy(), axis=0) + 0.01
        corner = part.min() + np.ptp(part.to_numpy(), axis=0) / 2 - span / 2
        axes.set(xlim=(corner[across], corner[across] + span[0]), ylim=(corner[up], corner[up] + span[1]))
        axes.set_title(f"enlarged: asked in {language}")
        axes.locator_params(nbins=5)
        whole.add_patch(Rectangle(tuple(corner), *span, fill=False, ec="gray", lw=0.7, zorder=5))
    whole.set_ylabel(f"{axes_names[0].lower} → {axes_names[0].upper}")
    whole.set_xlabel(f"{axes_names[1].lower} → {axes_names[1].upper}")
    put_title(figure, title)
    put_legend_below(figure, whole)
    if world:
        _label_points(figure, whole, countries["country"], countries[[across, up]].to_numpy(), bold=countries["culture"] != "")
    return mark_figure(figure, mark)


def _draw_countries(axes, countries: pd.DataFrame, wide: pd.DataFrame, across: str, up: str) -> None:
    """Countries as points; of the run's own also where they stand by the indicators that the models have."""
    ours = countries["culture"] != ""
    for is_whole, name in ((True, "country"), (False, "country, not asked some indicators")):
        part = countries[~ours & (countries["whole"] == is_whole)]
        if len(part):
            axes.plot(part[across], part[up], "o", ms=4, mfc="gray" if is_whole else "none", mec="gray", ls="", label=name)
    for row in countries[ours].to_dict("records"):
        style, culture = {"color": pick_colour(row["culture"]), "zorder": 4}, row["culture"]
        axes.plot(row[across], row[up], "s", ms=8, label=f"people, {culture}", **style)
        own, label = wide.loc[(culture, "human", "none")], f"people, {culture}, by the models' indicators"
        axes.plot([row[across], own[across]], [row[up], own[up]], ":", lw=1, **style)
        axes.plot(own[across], own[up], "s", ms=11, mfc="none", label=label, **style)


def _draw_paths(axes, places: pd.DataFrame) -> None:
    """Arrows from the untuned model to SFT, and from there on to every method with a reward; controls as points."""
    start = places.loc[("none", "zero_shot")]
    axes.plot(*start, "o", ms=6, color=pick_colour("zero_shot"), label="untuned model", zorder=2)
    for (culture, stage), to in places.drop(index="none").iterrows():
        style = {"ms": 6, "mfc": "none", "color": pick_colour(culture)}
        if stage in TARGETS:
            at = places.loc[(culture, "sft")] if stage != "sft" and (culture, "sft") in places.index else start
            arrow = {"arrowstyle": "-|>", "color": pick_colour(culture), "lw": 1.2, "shrinkA": 0, "shrinkB": 0}
            axes.annotate("", tuple(to), tuple(at), arrowprops=arrow)
            axes.plot(*to, LINES[stage][0][0], label=f"{culture}, {name_condition(stage)}", **style)
        elif stage.startswith("control_"):
            label = f"{culture}, {stage.removeprefix('control_').replace('_', ' ')}"
            axes.plot(*to, "P" if "shuffled" in stage else "X", label=label, **style)


def _label_points(figure, axes, names: pd.Series, points: np.ndarray, *, bold: pd.Series) -> None:
    """Write names beside their points, each at the nearest place around its point that nothing written or drawn covers."""
    figure.canvas.draw()  # the layout is settled here, so that boxes in pixels hold
    figure.set_layout_engine("none")
    renderer, pixel = figure.canvas.get_renderer(), figure.dpi / 72
    taken = [text.get_window_extent(renderer) for text in axes.texts if text.get_text()]
    marks = np.vstack([axes.transData.transform(line.get_xydata()) for line in axes.lines])
    taken += [Bbox.from_extents(*(mark - 3 * pixel), *(mark + 3 * pixel)) for mark in marks]
    turns = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    places = [(r * np.cos(turn), 0.8 * r * np.sin(turn)) for r in (9, 13, 18, 24, 31, 40) for turn in turns]
    for name, point, heavy in zip(names, points, bold, strict=True):
        text = axes.annotate(
            name, point, places[0], textcoords="offset points", ha="center", va="center", fontsize=8 if heavy else 6,
            fontweight="bold" if heavy else "normal", zorder=6, arrowprops={"arrowstyle": "-", "color": "gray", "lw": 0.4, "shrinkA": 0},
        )  # fmt: skip
        text.update_positions(renderer)  # until then its box is nowhere near the point
        covered = []
        for place in places:
            text.set_position(place)
            box = Text.get_window_extent(text, renderer)
            inside = axes.bbox.contains(box.x0, box.y0) and axes.bbox.contains(box.x1, box.y1)
            covered.append(sum(box.overlaps(other) for other in taken) + 99 * (not inside))
            if not covered[-1]:
                break
        text.set_position(places[int(np.argmin(covered))])
        taken.append(Text.get_window_extent(text, renderer))
