"""Figures of the survey: answers, items, counts, styles, map."""

from __future__ import annotations

import textwrap

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from align_utils.config.stages import TARGETS
from align_utils.plots.common import draw_nothing, mark_figure, name_condition, pick_colour, put_legend_below


def plot_answers(frame: pd.DataFrame, *, mark: str = ""):
    """Heatmap of mean answers, items down, answerers across, scale ends at 0 and 1.

    Parameters
    ----------
    frame : DataFrame
        Index `question`, one column an answerer, values in [0, 1].
    """
    figure, axes = plt.subplots(figsize=(0.62 * frame.shape[1] + 2.2, 0.145 * len(frame) + 1.8))
    sns.heatmap(
        frame, ax=axes, cmap="RdYlBu_r", vmin=0, vmax=1, xticklabels=False, yticklabels=False,
        cbar_kws={"shrink": 0.5, "label": "mean answer"},
    )  # fmt: skip
    axes.grid(False)
    axes.set_yticks(np.arange(len(frame)) + 0.5, frame.index, fontsize=6)
    axes.set_xticks(np.arange(frame.shape[1]) + 0.5, frame.columns, rotation=60, ha="right", fontsize=7)
    axes.set(xlabel="", ylabel="")
    axes.set_title("Mean answer (0 = first point of the scale, 1 = last)")
    return mark_figure(figure, mark)


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


def plot_map(frame: pd.DataFrame, axes_names: dict[str, dict], *, countries: pd.DataFrame | None = None, mark: str = ""):
    """The map: people and models on both axes, and one enlarged panel a language with arrows from base to SFT and on to what a reward made of it.

    Parameters
    ----------
    frame : DataFrame
        From `culture_map.summarise_map`, or `factor_map.summarise_places`, of one model and persona beside the baselines.
    axes_names : dict
        From `culture_map.load_axes`: the second axis runs across, the first one upward.
    countries : DataFrame, optional
        From `factor_map.list_countries`: every country is a labelled point; empty or None: the two indices.
    """
    if countries is not None and len(countries):
        return _plot_world(frame, axes_names, countries, mark)
    up, across = axes_names
    wide = frame.pivot(index=["adapter", "stage", "language"], columns="axis", values=["value", "low", "high"])
    missing = sorted({up, across} - set(frame.dropna(subset="value")["axis"]))
    if missing:
        return draw_nothing(f"the map needs items of both axes;\nthis run has none of {' and '.join(missing)}", mark=mark)
    counts = frame.groupby("axis")[["n", "items"]].max()
    people = wide[wide.index.get_level_values("stage") == "human"]
    even = wide[wide.index.get_level_values("stage") == "uniform"]
    models = wide[wide.index.get_level_values("language") != "none"]
    languages = list(dict.fromkeys(models.index.get_level_values("language")))
    figure, panels = plt.subplots(1, 1 + len(languages), figsize=(3.9 + 3.6 * len(languages), 4.4))
    whole = panels[0]
    for (culture, _, _), row in people.iterrows():
        _draw_cross(whole, row, up, across, pick_colour(culture))
        whole.plot(row["value", across], row["value", up], "s", ms=8, color=pick_colour(culture), zorder=4)
        whole.annotate(
            f"people, {culture}", (row["value", across], row["value", up]), (7, -12), textcoords="offset points", fontsize=8
        )
    whole.plot(
        even["value"][across], even["value"][up], "x", ms=7, color=pick_colour("uniform"), zorder=5, label="uniform answers"
    )
    for number, language in enumerate(languages):
        part = models.xs(language, level="language")
        whole.plot(
            part["value"][across], part["value"][up], "ov"[number % 2], ms=4, mfc="none", color="black", alpha=0.7, zorder=4,
            label=f"model, asked in {language}",
        )  # fmt: skip
    whole.set(xlim=(0, 1), ylim=(0, 1), title="everyone (intervals: over components)")
    whole.legend(loc="lower left")
    for axes, language in zip(panels[1:], languages, strict=True):
        part = models.xs(language, level="language")
        span = 1.3 * max(np.ptp(part["value"][name].to_numpy()) for name in (up, across)) / 2 + 0.001
        centre = [(part["value"][name].max() + part["value"][name].min()) / 2 for name in (across, up)]
        axes.set(xlim=(centre[0] - span, centre[0] + span), ylim=(centre[1] - span, centre[1] + span))
        axes.set_title(f"asked in {language}, enlarged {1 / (2 * span):.0f} times")
        _draw_paths(axes, part["value"], up, across)
        whole.add_patch(
            Rectangle((centre[0] - span, centre[1] - span), 2 * span, 2 * span, fill=False, ec="gray", lw=0.7, zorder=5)
        )
    for axes in panels:
        axes.set_xlabel(f"{axes_names[across]['lower']} → {axes_names[across]['upper']}")
        axes.locator_params(nbins=5)
    whole.set_ylabel(f"{axes_names[up]['lower']} → {axes_names[up]['upper']}")
    told = " and ".join(
        f"{counts.loc[axis, 'n']:.0f} components ({counts.loc[axis, 'items']:.0f} items) {way}"
        for axis, way in ((across, "across"), (up, "upward"))
    )
    figure.suptitle(
        f"Two indices in the manner of Inglehart and Welzel, not their published coordinates\n{told}", x=0.01, ha="left", fontsize=10
    )  # fmt: skip
    put_legend_below(figure, panels[1], columns=5)
    return mark_figure(figure, mark)


def _plot_world(frame: pd.DataFrame, axes_names: dict[str, dict], countries: pd.DataFrame, mark: str):
    """Every country of the file by its factor scores, the run's in colour, and the model's stages among them."""
    up, across = axes_names
    wide = frame.pivot(index=["adapter", "stage", "language"], columns="axis", values="value")
    models = wide[wide.index.get_level_values("language") != "none"]
    languages = list(dict.fromkeys(models.index.get_level_values("language")))
    figure = plt.figure(figsize=(7.4 + 3.4, 6.9))
    grid = figure.add_gridspec(len(languages), 2, width_ratios=[7.4, 3.4])
    whole = figure.add_subplot(grid[:, 0])
    ours = countries["culture"] != ""
    for is_whole, name in ((True, "country"), (False, "country, not asked some indicators")):
        part = countries[~ours & (countries["whole"] == is_whole)]
        if len(part):
            whole.plot(part[across], part[up], "o", ms=4, mfc="gray" if is_whole else "none", mec="gray", ls="", label=name)
    for row in countries[ours].to_dict("records"):
        colour = pick_colour(row["culture"])
        whole.plot(row[across], row[up], "s", ms=8, color=colour, zorder=4, label=f"people, {row['culture']}")
        if (row["culture"], "human", "none") in wide.index:
            own = wide.loc[(row["culture"], "human", "none")]
            label = f"people, {row['culture']}, by the models' indicators"
            whole.plot([row[across], own[across]], [row[up], own[up]], ":", color=colour, lw=1)
            whole.plot(own[across], own[up], "s", ms=11, mfc="none", color=colour, zorder=4, label=label)
    even = wide[wide.index.get_level_values("stage") == "uniform"]
    whole.plot(even[across], even[up], "x", ms=7, color=pick_colour("uniform"), zorder=5, ls="", label="uniform answers")
    for number, language in enumerate(languages):
        part = models.xs(language, level="language")
        _draw_paths(whole, part, up, across)
        axes = figure.add_subplot(grid[number, 1])
        _draw_paths(axes, part, up, across)
        span = [0.65 * np.ptp(part[name].to_numpy()) + 0.01 for name in (across, up)]
        centre = [(part[name].max() + part[name].min()) / 2 for name in (across, up)]
        axes.set(xlim=(centre[0] - span[0], centre[0] + span[0]), ylim=(centre[1] - span[1], centre[1] + span[1]))
        axes.set_title(f"enlarged: asked in {language}")
        axes.locator_params(nbins=5)
        at = part.loc[("none", "zero_shot")]
        whole.annotate(language, (at[across], at[up]), (0, 7), textcoords="offset points", fontsize=8, ha="center", zorder=6)
    whole.set_xlabel(f"{axes_names[across]['lower']} → {axes_names[across]['upper']}")
    whole.set_ylabel(f"{axes_names[up]['lower']} → {axes_names[up]['upper']}")
    whole.set_title(f"{len(countries)} countries of the file and the models")
    handles = dict(zip(*whole.get_legend_handles_labels()[::-1], strict=True))
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4)
    figure.suptitle(
        "The factor construction of Inglehart and Welzel, fitted to this file's respondents", x=0.01, ha="left", fontsize=10
    )
    _label_points(figure, whole, countries["country"], countries[[across, up]].to_numpy(), bold=ours)
    return mark_figure(figure, mark)


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


def _draw_paths(axes, values: pd.DataFrame, up: str, across: str) -> None:
    start = values.loc[("none", "zero_shot")]
    axes.plot(start[across], start[up], "o", ms=6, color=pick_colour("zero_shot"), label="vanilla model", zorder=2)
    for culture in dict.fromkeys(name for name, _ in values.index if name != "none"):
        at = start
        for stage in (stage for stage in TARGETS if (culture, stage) in values.index):
            to = values.loc[(culture, stage)]
            axes.annotate(
                "", (to[across], to[up]), (at[across], at[up]),
                arrowprops={"arrowstyle": "-|>", "color": pick_colour(culture), "lw": 1.2, "shrinkA": 0, "shrinkB": 0},
            )  # fmt: skip
            label = f"{culture}, {name_condition(stage)}"
            axes.plot(to[across], to[up], LINES[stage][0][0], ms=6, mfc="none", color=pick_colour(culture), label=label)
            at = to if stage == "sft" else at  # every method with a reward goes on from SFT
        controls = [stage for name, stage in values.index if name == culture and stage.startswith("control_")]
        for stage in controls:
            to = values.loc[(culture, stage)]
            label = f"{culture}, {stage.removeprefix('control_').replace('_', ' ')}"
            shape = "P" if "shuffled" in stage else "X"
            axes.plot(to[across], to[up], shape, ms=6, mfc="none", color=pick_colour(culture), label=label)


def _draw_cross(axes, row: pd.Series, up: str, across: str, colour: str) -> None:
    x, y = row["value", across], row["value", up]
    axes.plot([row["low", across], row["high", across]], [y, y], color=colour, lw=1, alpha=0.6)
    axes.plot([x, x], [row["low", up], row["high", up]], color=colour, lw=1, alpha=0.6)
