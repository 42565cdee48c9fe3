"""Figures of the survey: answers and shares; a tidy frame in, a matplotlib figure out."""

from __future__ import annotations

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt

from align_utils.plots import mark_figure, pick_colour


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
    axes.barh(y, frame["value"], xerr=errors, color=[pick_colour(group) for group in frame["group"]], alpha=0.8, height=0.65)
    axes.set_yticks(y, [f"{row.label}  {row.count_}/{row.n}" for row in frame.rename(columns={"count": "count_"}).itertuples()])
    axes.axvline(0.5, color="black", lw=0.8, ls=":")
    axes.invert_yaxis()
    axes.set(xlim=(0, 1), xlabel=value_label, title=title)
    axes.grid(axis="y", visible=False)
    return mark_figure(figure, mark)
