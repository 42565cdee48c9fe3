"""Figure of the preference methods: reward on the validation cues and distance from the SFT model, method by method."""

from __future__ import annotations

import matplotlib
import pandas as pd
from matplotlib import pyplot as plt

from align_utils.plots import mark_figure, name_condition, pick_colour, put_legend_below

PANELS = {"reward_valid": "reward, validation cues", "kl": "KL to SFT (nats per list)"}


def plot_methods(frame: pd.DataFrame, *, mark: str = ""):
    """Validation reward and KL by update, a line a method; the dotted line is the SFT model, a ring the chosen checkpoint.

    Parameters
    ----------
    frame : DataFrame
        `culture` (name of the column), `stage, update, reward_valid, kl, chosen`; NaN where not measured.
    mark : str
        Watermark.

    Returns
    -------
    matplotlib.figure.Figure
    """
    cultures = list(dict.fromkeys(frame["culture"]))
    figure, grid = plt.subplots(
        len(PANELS), len(cultures), figsize=(3.3 * len(cultures) + 0.4, 2.2 * len(PANELS) + 0.9), sharex=True, sharey="row",
        squeeze=False,
    )  # fmt: skip
    for column, culture in enumerate(cultures):
        part = frame[frame["culture"] == culture]
        for row, (name, label) in zip(grid, PANELS.items(), strict=True):
            axes = row[column]
            for stage, log in part.groupby("stage", sort=False):
                known = log.dropna(subset=name)
                style = {"marker": "o", "ms": 4} if name == "reward_valid" else {}
                axes.plot(known["update"], known[name], color=pick_colour(stage), label=name_condition(stage), **style)
                chosen = known[known["chosen"].eq(True)]
                if name == "reward_valid":
                    axes.plot(chosen["update"], chosen[name], "o", ms=9, mfc="none", color=pick_colour(stage))
            axes.set_ylabel(label if column == 0 else "")
        start = part.loc[part["update"] == 0, "reward_valid"].iloc[0]
        grid[0][column].axhline(start, color="#E69F00", ls=":", label=name_condition("sft"))
        grid[0][column].set_title(culture)
        grid[-1][column].set_xlabel("update")
        grid[-1][column].xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
    put_legend_below(figure, grid[0][0])
    return mark_figure(figure, mark)
