"""Figure of the survey: the answers; a tidy frame in, a matplotlib figure out."""

from __future__ import annotations

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt

from align_utils.plots import mark_figure


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
