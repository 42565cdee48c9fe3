"""Figures of the values analysis: items by name, counts and styles; a tidy frame in, a matplotlib figure out."""

from __future__ import annotations

import textwrap

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

from align_utils.plots import draw_nothing, mark_figure, name_condition, pick_colour, put_legend_below
from align_utils.stages import TARGETS

# Items that a figure of them holds.
PAGE = 18
LINES = {"zero_shot": ("o--", "vanilla model")} | {
    stage: (f"{shape}-", name_condition(stage)) for stage, shape in zip(TARGETS, "sD^v", strict=True)
}


def plot_pages(frame: pd.DataFrame, *, title: str, of: int, mark: str = "") -> dict[str, plt.Figure]:
    """Figures of `plot_items`, PAGE items each at most, by what their names end in: '', '_2', '_3' ...

    Parameters
    ----------
    frame : DataFrame
        From `tension.list_answers`.
    of : int
        Items that there were to choose from.
    """
    items = list(dict.fromkeys(frame["question"])) if len(frame) else []
    number = -(-len(items) // PAGE) or 1
    pages = [page.tolist() for page in np.array_split(items, number)]  # 10 and 10, not 18 and 2
    figures, first = {}, 1
    for number, page in enumerate(pages, start=1):
        place = f"; {first} to {first + len(page) - 1} of {len(items)} chosen from {of}"
        part = frame[frame["question"].isin(page)] if page else frame
        figures["" if number == 1 else f"_{number}"] = plot_items(part, title=title + place, mark=mark)
        first += len(page)
    return figures


def plot_items(frame: pd.DataFrame, *, title: str, columns: int = 3, mark: str = ""):
    """Small multiples of items: both countries' shares as bars, the stages' answers as lines over them.

    Parameters
    ----------
    frame : DataFrame
        Of `tension.list_answers`; PAGE items stay readable.
    """
    if frame.empty:
        return draw_nothing(f"{title}: no items", mark=mark)
    panels = list(frame.groupby("question", sort=False))
    rows = -(-len(panels) // columns)
    figure, grid = plt.subplots(rows, columns, figsize=(3.5 * columns, 1.85 * rows + 0.9), squeeze=False)
    for axes, (question, part) in zip(grid.ravel(), panels, strict=False):
        people = [name for name in dict.fromkeys(part["answerer"]) if name not in LINES]
        for name, line in part.groupby("answerer", sort=False):
            if name in LINES:
                style, label = LINES[name]
                axes.plot(line["place"], line["share"], style, ms=3.2, lw=1.3, color=pick_colour(name), label=label, zorder=3)
            else:
                width = 0.8 / len(people)
                x = line["place"] + (people.index(name) - (len(people) - 1) / 2) * width
                axes.bar(x, line["share"], width, color=pick_colour(name), alpha=0.45, label=f"people, {name}")
        last = part["place"].max()
        axes.set_title("\n".join(textwrap.wrap(f"{question}  {part['text'].iloc[0]}", 58)), fontsize=7)
        axes.set(xticks=range(last + 1), xticklabels=[], xlim=(-0.6, last + 0.6), ylim=(0, None))
        axes.locator_params(axis="y", nbins=4)
        axes.tick_params(labelsize=6.5, length=2)
        axes.grid(axis="x", visible=False)
        axes.text(0, -0.05, _wrap(part["first"].iloc[0]), transform=axes.transAxes, ha="left", va="top", fontsize=6.5)
        axes.text(1, -0.05, _wrap(part["last"].iloc[0]), transform=axes.transAxes, ha="right", va="top", fontsize=6.5)
    for axes in grid.ravel()[len(panels) :]:
        axes.set_visible(False)
    for row in grid:
        row[0].set_ylabel("share", fontsize=7)
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    put_legend_below(figure, grid[0][0], columns=5)
    return mark_figure(figure, mark)


def plot_counts(frame: pd.DataFrame, *, titles: dict[str, str], chance: dict[str, float], title: str, mark: str = ""):
    """Shares of the chosen items with their intervals, a panel a reading, an answerer a row; chance lies at the dotted line.

    Parameters
    ----------
    frame : DataFrame
        `label, reading, group` (colour), `value, low, high, count, n`.
    titles : dict
        Reading to the title of its panel.
    chance : dict
        Reading to the place of its line, from `tension.find_chance`.
    """
    panels = {name: frame[frame["reading"] == reading] for reading, name in titles.items()}
    figure, all_axes = _draw_rows(panels, title)
    for axes, reading, part in zip(all_axes, titles, panels.values(), strict=True):
        for y, row in enumerate(part.to_dict("records")):
            axes.text(1.03, y, f"{row['count']:.3g}/{row['n']}", va="center", fontsize=7)
        axes.axvline(chance[reading], color="black", lw=0.8, ls=":")
        axes.set(xlim=(-0.03, 1.16), xlabel="share of the chosen items", xticks=[0, 0.25, 0.5, 0.75, 1])
    return mark_figure(figure, mark)


def plot_styles(frame: pd.DataFrame, *, mark: str = ""):
    """Response styles with intervals over items, a panel a style, an answerer a row; even answers lie at the dotted line.

    Parameters
    ----------
    frame : DataFrame
        `label, style, stage` (colour; 'uniform' gives the line), `value, low, high, n`, rows in the same order in every style.
    """
    panels = {f"{style} ({part['n'].max():.0f} items)": part for style, part in frame.groupby("style", sort=False)}
    figure, all_axes = _draw_rows(
        {name: part.assign(group=part["stage"]) for name, part in panels.items()}, "Response styles; dotted: even answers"
    )
    for axes, part in zip(all_axes, panels.values(), strict=True):
        for even in part.loc[part["stage"] == "uniform", "value"]:
            axes.axvline(even, color="black", lw=0.8, ls=":")
        axes.set(xlabel="agree minus disagree" if part["style"].iloc[0] == "acquiescence" else "share of answers")
        axes.locator_params(axis="x", nbins=5)
    return mark_figure(figure, mark)


def _draw_rows(panels: dict[str, pd.DataFrame], title: str) -> tuple:
    """A panel an entry, estimates with intervals row by row, labels at the left; every panel has the same rows."""
    labels = list(next(iter(panels.values()))["label"])
    size = (2.6 + 2.6 * len(panels), 0.25 * len(labels) + 1.3)
    figure, grid = plt.subplots(1, len(panels), figsize=size, sharey=True, squeeze=False)
    for axes, (name, part) in zip(grid[0], panels.items(), strict=True):
        for row in part.to_dict("records"):
            y, colour = labels.index(row["label"]), pick_colour(row["group"].replace("human_half", "human"))
            axes.plot([row["low"], row["high"]], [y, y], color=colour, lw=1.4)
            axes.plot(row["value"], y, "o", color=colour, ms=4.5)
        axes.set_title(name)
        axes.grid(axis="y", visible=False)
    grid[0][0].set_yticks(range(len(labels)), labels)
    grid[0][0].set_ylim(len(labels) - 0.4, -0.6)
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    return figure, grid[0]


def _wrap(text: str) -> str:
    return "\n".join(textwrap.wrap(text, 30))
