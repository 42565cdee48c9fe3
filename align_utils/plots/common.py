"""What all figures share: style, colours, names, watermark; and intervals."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import font_manager
from matplotlib import pyplot as plt

# One colour a condition, the same in every figure (Okabe and Ito's palette, safe for colour-blind readers).
COLOURS = {
    "human": "#000000", "human_top5": "#000000", "zero_shot": "#999999", "few_shot": "#56B4E9", "sft": "#E69F00", "ppo": "#D55E00",
    "rloo": "#0072B2", "grpo": "#6A3D9A",
    "frequency": "#009E73", "chance": "#CC79A7", "us": "#0072B2", "cn": "#882255", "uniform": "#CC79A7",
}  # fmt: skip
NAMES = {
    "human": "human", "human_top5": "human, five strongest", "zero_shot": "vanilla, zero-shot", "few_shot": "vanilla, few-shot", "sft": "SFT", "ppo": "PPO",
    "rloo": "RLOO", "grpo": "GRPO",
    "frequency": "frequency baseline", "chance": "chance", "uniform": "uniform answers",
}  # fmt: skip
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#F0E442")
CHINESE = (
    "Noto Sans CJK SC",
    "Noto Sans Mono CJK SC",
    "Source Han Sans SC",
    "Source Han Mono SC",
    "SimHei",
    "WenQuanYi Micro Hei",
)


def use_style() -> str:
    """Set the companion's style and a font with Chinese glyphs; say in one sentence which font that is, or that none is there."""
    plt.style.use(Path(__file__).with_name("companion.mplstyle"))
    _register_package_fonts()
    known = {font.name for font in font_manager.fontManager.ttflist}
    chinese = next((name for name in CHINESE if name in known), None)
    matplotlib.rcParams["font.family"] = ["DejaVu Sans", chinese] if chinese else ["DejaVu Sans"]
    if chinese:
        return f"Chinese labels are drawn with {chinese}."
    return "No font with Chinese glyphs was found: Chinese labels will show boxes; `pip install mplfonts` brings one."


def pick_colour(condition: str) -> str:
    """Colour of a stage or culture, also where the name ends a panel's label; the same in every figure."""
    known = [name for name in COLOURS if condition == name or condition.endswith(f" {name}")]
    # A culture added by YAML has no entry: its colour follows from its name, so that it is the same in every figure.
    return COLOURS[known[0]] if known else PALETTE[sum(map(ord, condition)) % len(PALETTE)]


def name_condition(condition: str) -> str:
    """Name of a stage as written in a legend; anything else as it is."""
    return NAMES.get(condition, condition)


def put_legend_below(figure, axes, *, columns: int = 4) -> None:
    """One legend for the whole figure, outside of the axes, from the handles of `axes`, at most `columns` abreast."""
    handles, names = axes.get_legend_handles_labels()
    if names:
        figure.legend(handles, names, loc="outside lower center", ncols=min(columns, len(names)))


def mark_figure(figure, mark: str):
    """Draw the watermark, close the figure for pyplot and return it."""
    if mark:
        figure.text(
            0.5, 0.5, mark, ha="center", va="center", rotation=25, fontsize=15, color="gray", alpha=0.22, zorder=10,
            wrap=True,
        )  # fmt: skip
    plt.close(figure)
    return figure


def draw_nothing(reason: str, *, mark: str = ""):
    """The figure of an empty frame: it says why there is nothing to see."""
    figure = plt.figure(figsize=(5, 1.5))
    figure.text(0.5, 0.5, reason, ha="center", va="center")
    return mark_figure(figure, mark)


def plot_intervals(frame: pd.DataFrame, *, value_label: str, title: str, zero: bool = False, mark: str = ""):
    """Estimates with intervals, one row each, n beside the label.

    Parameters
    ----------
    frame : DataFrame
        `label, value, low, high, n`, optionally `group` (colour and legend) and `panel` (one panel each).
    zero : bool
        Draw the line of no effect.
    """
    if frame.empty:
        return draw_nothing(f"{title}: nothing to compare", mark=mark)
    panels = list(dict.fromkeys(frame["panel"])) if "panel" in frame else [None]
    labels = list(dict.fromkeys(frame["label"]))
    height = max(2.4, 0.28 * len(labels) * max(1, frame.get("group", pd.Series([0])).nunique() * 0.6) + 1)
    figure, all_axes = plt.subplots(
        1, len(panels), figsize=(2.6 + 2.7 * len(panels), height), sharex=True, sharey=True, squeeze=False
    )
    for axes, panel in zip(all_axes[0], panels, strict=True):
        part = frame if panel is None else frame[frame["panel"] == panel]
        groups = list(dict.fromkeys(part["group"])) if "group" in part else [None]
        for number, group in enumerate(groups):
            rows = part if group is None else part[part["group"] == group]
            y = np.array([labels.index(label) for label in rows["label"]]) + (number - (len(groups) - 1) / 2) * 0.22
            errors = np.abs(rows[["low", "high"]].to_numpy().T - rows["value"].to_numpy())
            colour = PALETTE[number % len(PALETTE)]
            axes.errorbar(
                rows["value"], y, xerr=errors, fmt="o", ms=4, color=colour, label=name_condition(group) if group else None
            )
        if zero:
            axes.axvline(0, color="black", lw=0.8)
        axes.set(xlabel=value_label, title=panel or "")
        axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(5))
        axes.grid(axis="y", visible=False)
    counts = frame.groupby("label")["n"].max()
    all_axes[0][0].set_yticks(range(len(labels)), [f"{label} (n={counts[label]:.0f})" for label in labels])
    all_axes[0][0].set_ylim(len(labels) - 0.4, -0.6)
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    put_legend_below(figure, all_axes[0][0])
    return mark_figure(figure, mark)


def label_panels(frame: pd.DataFrame, label):
    """The frame with `culture` replaced by `label(model, culture)`, the name of its panel."""
    return frame.assign(culture=[label(*cell) for cell in zip(frame["model"], frame["culture"], strict=True)])


def _register_package_fonts() -> None:
    package = find_spec("mplfonts")
    if package is not None:
        for path in sorted(Path(package.origin).parent.rglob("NotoSansCJKsc*.otf")):
            font_manager.fontManager.addfont(path)
