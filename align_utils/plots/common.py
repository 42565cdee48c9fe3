"""What all figures share: style, colours, names, watermark; and intervals."""

from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from itertools import cycle
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import font_manager
from matplotlib import pyplot as plt

from align_utils.config.stages import NAMES

# One colour a condition, the same in every figure (Okabe and Ito's palette, safe for colour-blind readers).
COLOURS = {
    "human": "#000000", "human_top5": "#000000", "human_half": "#000000", "zero_shot": "#999999", "few_shot": "#56B4E9",
    "sft": "#E69F00", "ppo": "#D55E00", "rloo": "#0072B2", "grpo": "#6A3D9A",
    "graph": "#332288", "sft_graph": "#AA4499", "sft_same_size": "#DDCC77",
    "control_shuffled": "#B0B0B0", "control_other_culture": "#8C6D31", "control_foreign": "#6B8E23",
    "persona": "#56B4E9", "survey_taught": "#117733", "frequency": "#009E73", "chance": "#CC79A7", "us": "#0072B2", "cn": "#882255", "uniform": "#CC79A7",
}  # fmt: skip
# Cultures beside these two take theirs from here (Tol's muted palette), in the order of their names.
OTHER_CULTURES = ("#117733", "#CC6677", "#88CCEE", "#999933", "#AA4499", "#DDCC77")
# Colours of the run's cultures, by name and label, set by `use_style`.
_cultures: dict[str, str] = {}
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#F0E442")
CHINESE = (
    "Noto Sans CJK SC", "Noto Sans Mono CJK SC", "Source Han Sans SC", "Source Han Mono SC", "SimHei", "WenQuanYi Micro Hei",
)  # fmt: skip


def use_style(cultures: Iterable[str] = ()) -> str:
    """Set the companion's style, a font with Chinese glyphs, and a colour for each culture of the run.

    `cultures` in any order: up to eight have colours of their own; of a mapping to `Culture` the labels are known as well. Returns a
    sentence where no font has Chinese glyphs, else nothing.
    """
    others = [name for name in sorted(cultures) if name not in COLOURS]
    _cultures.clear()
    _cultures.update(zip(others, cycle(OTHER_CULTURES), strict=False))
    if isinstance(cultures, Mapping):
        _cultures.update({culture.label: pick_colour(name) for name, culture in cultures.items()})
    plt.style.use(Path(__file__).with_name("companion.mplstyle"))
    if package := find_spec("mplfonts"):
        for path in sorted(Path(package.origin).parent.rglob("NotoSansCJKsc*.otf")):
            font_manager.fontManager.addfont(path)
    known = {font.name for font in font_manager.fontManager.ttflist}
    chinese = next((name for name in CHINESE if name in known), None)
    matplotlib.rcParams["font.family"] = ["DejaVu Sans", chinese] if chinese else ["DejaVu Sans"]
    if chinese:
        return ""
    return "No font with Chinese glyphs was found: Chinese labels will show boxes; `pip install mplfonts` brings one."


def pick_colour(condition: str) -> str:
    """Colour of a stage or culture, also where the name ends a panel's label; the same in every figure."""
    known = {**COLOURS, **_cultures}.items()
    own = (colour for name, colour in known if condition == name or condition.endswith(f" {name}"))
    return next(own, OTHER_CULTURES[0])


def name_condition(condition: str) -> str:
    """Name of a stage as written in a legend; anything else as it is."""
    return NAMES.get(condition, condition)


def make_grid(rows: int, columns: int, *, width: float, height: float, **shared):
    """A figure and its axes, shape (rows, columns), each `width` by `height` inches; `shared` are options of `plt.subplots`."""
    return plt.subplots(rows, columns, figsize=(width * columns + 0.5, height * rows + 0.7), squeeze=False, **shared)


def measure_errors(frame: pd.DataFrame) -> np.ndarray:
    """`value, low, high` as the lengths that matplotlib's `errorbar` takes, shape (2, n)."""
    return np.abs(frame[["low", "high"]].to_numpy(dtype=float).T - frame["value"].to_numpy(dtype=float))


def show_whole_numbers(axis) -> None:
    """Whole numbers alone at the ticks."""
    axis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))


def put_title(figure, title: str) -> None:
    """The title of a whole figure, at its left edge."""
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)


def put_legend_below(figure, axes, *, columns: int = 4) -> None:
    """One legend for the whole figure, outside of the axes, from the handles of `axes`, at most `columns` abreast."""
    handles = dict(zip(*axes.get_legend_handles_labels()[::-1], strict=True))
    if handles:
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=min(columns, len(handles)))


def mark_figure(figure, mark: str):
    """Draw the watermark, close the figure for pyplot and return it."""
    if mark:
        figure.text(
            0.5, 0.5, mark, ha="center", va="center", rotation=25, fontsize=15, color="gray", alpha=0.22, zorder=10, wrap=True,
        )  # fmt: skip
    plt.close(figure)
    return figure


def draw_nothing(reason: str, *, mark: str = ""):
    """The figure of an empty frame: it says why there is nothing to see."""
    figure = plt.figure(figsize=(5, 1.5))
    figure.text(0.5, 0.5, reason, ha="center", va="center")
    return mark_figure(figure, mark)


def draw_rows(panels: dict[str, pd.DataFrame], *, title: str, colour, apart: float = 0.0):
    """Estimates with intervals, a row a `label` and a panel an entry, one above the other, so that they can be read on a small screen; of
    several `group`s the rows lie `apart`, `colour(group)` each."""
    labels = list(dict.fromkeys(label for part in panels.values() for label in part["label"]))
    groups = max(part["group"].nunique() for part in panels.values()) if apart else 1
    height = max(1.7, 0.27 * len(labels) * max(1, 0.6 * groups) + 0.5)
    figure, grid = make_grid(len(panels), 1, width=2.9, height=height)
    figure.set_figwidth(figure.get_figwidth() + 2.1)  # the labels
    for axes, (name, part) in zip(grid[:, 0], panels.items(), strict=True):
        for number, (group, rows) in enumerate(part.groupby("group", sort=False)):
            y = rows["label"].map(labels.index) + (number - (part["group"].nunique() - 1) / 2) * apart
            style = {"fmt": "o", "ms": 4.5, "color": colour(group), "label": name_condition(group)}
            axes.errorbar(rows["value"], y, xerr=measure_errors(rows), **style)
        axes.set_title(name)
        axes.locator_params(axis="x", nbins=5)
        axes.grid(axis="y", visible=False)
        axes.set_yticks(range(len(labels)), labels)
        axes.set_ylim(len(labels) - 0.4, -0.6)
    put_title(figure, title)
    return figure, grid[:, 0]


def plot_intervals(frame: pd.DataFrame, *, value_label: str, title: str, zero: bool = False, mark: str = ""):
    """Estimates with intervals, one row each, n beside the label; `zero` draws the line of no effect.

    `frame`: `label, value, low, high, n`, optionally `group` (colour and legend) and `panel` (one panel each).
    """
    if frame.empty:
        return draw_nothing(f"{title}: nothing to compare", mark=mark)
    counts = frame.groupby("label")["n"].transform("max")
    frame = frame.assign(label=[f"{label} (n={n:.0f})" for label, n in zip(frame["label"], counts, strict=True)])
    frame = pd.DataFrame({"group": "", "panel": ""}, index=frame.index).assign(**frame)
    groups = list(frame["group"].unique())
    panels = dict(tuple(frame.groupby("panel", sort=False)))
    figure, all_axes = draw_rows(
        panels, title=title, colour=lambda group: PALETTE[groups.index(group) % len(PALETTE)], apart=0.22
    )
    ends = frame[["value", "low", "high"]].to_numpy(dtype=float)
    ends = np.append(ends[np.isfinite(ends)], [0.0] if zero else [])
    room = 0.05 * (np.ptp(ends) or 1.0)
    for axes in all_axes:
        if zero:
            axes.axvline(0, color="black", lw=0.8)
        axes.set_xlim(ends.min() - room, ends.max() + room)
    all_axes[-1].set_xlabel(value_label)
    if groups != [""]:
        put_legend_below(figure, all_axes[0])
    return mark_figure(figure, mark)


def label_panels(frame: pd.DataFrame, label):
    """The frame with `culture` replaced by `label(model, culture)`, the name of its panel."""
    return frame.assign(culture=[label(*cell) for cell in zip(frame["model"], frame["culture"], strict=True)])
