"""Figures: a tidy frame in, a matplotlib figure out; nothing is computed or saved here."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import font_manager
from matplotlib import pyplot as plt

# One colour a condition, the same in every figure (Okabe and Ito's palette, safe for colour-blind readers).
COLOURS = {
    "human": "#000000", "zero_shot": "#999999", "few_shot": "#56B4E9", "sft": "#E69F00", "ppo": "#D55E00",
    "frequency": "#009E73", "chance": "#CC79A7", "us": "#0072B2", "cn": "#D55E00", "uniform": "#CC79A7",
}  # fmt: skip
NAMES = {
    "human": "human", "zero_shot": "vanilla, zero-shot", "few_shot": "vanilla, few-shot", "sft": "SFT", "ppo": "PPO",
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


def plot_strength_by_rank(frame: pd.DataFrame, *, mark: str = ""):
    """Association strength by rank, one line a culture, with the band of the middle half of the cues.

    Parameters
    ----------
    frame : DataFrame
        `culture, rank, strength, low, high` (median and quartiles over cues).
    mark : str
        Watermark.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, axes = plt.subplots(figsize=(5.2, 3.4))
    for culture, part in frame.groupby("culture", sort=False):
        axes.plot(part["rank"], part["strength"], marker="o", ms=3, color=_colour(culture), label=culture)
        axes.fill_between(part["rank"], part["low"], part["high"], color=_colour(culture), alpha=0.15, lw=0)
    axes.set(xscale="log", yscale="log", xlabel="rank of the response", ylabel="strength (count / N)")
    ticks = [rank for rank in (1, 2, 3, 5, 10, 15, 20, 50, 100) if rank <= frame["rank"].max()]
    axes.set_xticks(ticks, map(str, ticks))
    axes.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
    axes.set_title("Strength by rank: median and middle half of the cues")
    axes.legend()
    return _mark(figure, mark)


def plot_intervals(frame: pd.DataFrame, *, value_label: str, title: str, zero: bool = False, mark: str = ""):
    """Estimates with intervals, one row each, n beside the label.

    Parameters
    ----------
    frame : DataFrame
        `label, value, low, high, n`, optionally `group` (colour and legend) and `panel` (one panel each).
    zero : bool
        Draw the line of no effect.
    """
    panels = list(dict.fromkeys(frame["panel"])) if "panel" in frame else [None]
    labels = list(dict.fromkeys(frame["label"]))
    height = max(2.4, 0.28 * len(labels) * max(1, frame.get("group", pd.Series([0])).nunique() * 0.6) + 1)
    figure, all_axes = plt.subplots(1, len(panels), figsize=(2.6 + 2.7 * len(panels), height), sharey=True, squeeze=False)
    for axes, panel in zip(all_axes[0], panels, strict=True):
        part = frame if panel is None else frame[frame["panel"] == panel]
        groups = list(dict.fromkeys(part["group"])) if "group" in part else [None]
        for number, group in enumerate(groups):
            rows = part if group is None else part[part["group"] == group]
            y = np.array([labels.index(label) for label in rows["label"]]) + (number - (len(groups) - 1) / 2) * 0.22
            errors = np.abs(rows[["low", "high"]].to_numpy().T - rows["value"].to_numpy())
            colour = PALETTE[number % len(PALETTE)]
            axes.errorbar(rows["value"], y, xerr=errors, fmt="o", ms=4, color=colour, label=_name(group) if group else None)
        if zero:
            axes.axvline(0, color="black", lw=0.8)
        axes.set(xlabel=value_label, title=panel or "")
        axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(5))
        axes.grid(axis="y", visible=False)
    counts = frame.groupby("label")["n"].max()
    all_axes[0][0].set_yticks(range(len(labels)), [f"{label} (n={counts[label]:.0f})" for label in labels])
    all_axes[0][0].invert_yaxis()
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    _legend_below(figure, all_axes[0][0])
    return _mark(figure, mark)


def label_panels(frame: pd.DataFrame, label):
    """The frame with `culture` replaced by `label(model, culture)`, the name of its panel."""
    return frame.assign(culture=[label(*cell) for cell in zip(frame["model"], frame["culture"], strict=True)])


def plot_loss(frame: pd.DataFrame, *, mark: str = ""):
    """Training and held-out loss by step, one panel a culture.

    Parameters
    ----------
    frame : DataFrame
        `culture, step, loss, eval_loss` (nats per completion token; NaN where not measured).
    """
    return _plot_curves(
        frame, "step", [("loss", "training batch", "#999999", "-"), ("eval_loss", "validation cues", "#E69F00", "o-")],
        ["loss (nats per token)"], "optimiser step", mark,
    )  # fmt: skip


def plot_reward(frame: pd.DataFrame, *, mark: str = ""):
    """PPO: reward of the sampled and of the validation lists, and KL to the SFT model, by update.

    Parameters
    ----------
    frame : DataFrame
        `culture, update, reward, reward_valid, kl` (NaN where not measured).
    """
    series = [
        ("reward", "sampled lists", "#999999", "-"),
        ("reward_valid", "validation cues", "#D55E00", "o-"),
        ("kl", "KL", "#0072B2", "-"),
    ]
    return _plot_curves(frame, "update", series, ["reward", "reward", "KL to SFT (nats per list)"], "update", mark)


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
                    x, line["value"], yerr=errors, fmt=f"o{style}", ms=3.5, lw=1.2, color=_colour(stage), label=_name(stage)
                )
            axes.set_title(f"{culture}, {reading} (n={part['n'].max():.0f} cues)")
            axes.set(xscale="log", ylim=(0, None))
            ks = sorted(frame["k"].unique())
            axes.set_xticks(ks, map(str, ks))
            axes.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
        row[0].set_ylabel("Precision@K")
    for axes in grid[-1]:
        axes.set_xlabel("K")
    _legend_below(figure, max(grid.ravel(), key=lambda axes: len(axes.get_legend_handles_labels()[1])))
    return _mark(figure, mark)


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
    return _mark(figure, mark)


def plot_counts(frame: pd.DataFrame, *, title: str, value_label: str, mark: str = ""):
    """Bars of shares with intervals, one a label.

    Parameters
    ----------
    frame : DataFrame
        `label, value, low, high, count, n`, optionally `group` for the colour.
    """
    figure, axes = plt.subplots(figsize=(6.4, 0.32 * len(frame) + 1.4))
    y = np.arange(len(frame))
    errors = np.abs(frame[["low", "high"]].to_numpy().T - frame["value"].to_numpy())
    axes.barh(y, frame["value"], xerr=errors, color=[_colour(group) for group in frame["group"]], alpha=0.8, height=0.65)
    axes.set_yticks(y, [f"{row.label}  {row.count_}/{row.n}" for row in frame.rename(columns={"count": "count_"}).itertuples()])
    axes.axvline(0.5, color="black", lw=0.8, ls=":")
    axes.invert_yaxis()
    axes.set(xlim=(0, 1), xlabel=value_label, title=title)
    axes.grid(axis="y", visible=False)
    return _mark(figure, mark)


def _plot_curves(frame, x: str, series: list, labels: list[str], x_label: str, mark: str):
    cultures, rows = list(dict.fromkeys(frame["culture"])), list(dict.fromkeys(labels))
    figure, grid = plt.subplots(
        len(rows),
        len(cultures),
        figsize=(3.3 * len(cultures) + 0.4, 2.2 * len(rows) + 0.7),
        sharex=True,
        sharey="row",
        squeeze=False,
    )
    for column, culture in enumerate(cultures):
        part = frame[frame["culture"] == culture]
        for (name, text, colour, style), label in zip(
            series, labels * len(series) if len(labels) == 1 else labels, strict=False
        ):
            axes = grid[rows.index(label)][column]
            known = part.dropna(subset=name)
            axes.plot(known[x], known[name], style, ms=4, color=colour, label=text)
            axes.set_ylabel(label if column == 0 else "")
        grid[0][column].set_title(culture)
        grid[-1][column].set_xlabel(x_label)
        grid[-1][column].xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
    for row in grid:
        row[-1].legend()
    return _mark(figure, mark)


def _legend_below(figure, axes) -> None:
    handles, names = axes.get_legend_handles_labels()
    if names:
        figure.legend(handles, names, loc="outside lower center", ncols=min(4, len(names)))


def _colour(condition: str) -> str:
    known = [name for name in COLOURS if condition == name or condition.endswith(f" {name}")]
    # A culture added by YAML has no entry: its colour follows from its name, so that it is the same in every figure.
    return COLOURS[known[0]] if known else PALETTE[sum(map(ord, condition)) % len(PALETTE)]


def _name(condition: str) -> str:
    return NAMES.get(condition, condition)


def _mark(figure, mark: str):
    if mark:
        figure.text(
            0.5, 0.5, mark, ha="center", va="center", rotation=25, fontsize=15, color="gray", alpha=0.22, zorder=10,
            wrap=True,
        )  # fmt: skip
    plt.close(figure)
    return figure


def _register_package_fonts() -> None:
    package = find_spec("mplfonts")
    if package is not None:
        for path in sorted(Path(package.origin).parent.rglob("NotoSansCJKsc*.otf")):
            font_manager.fontManager.addfont(path)
