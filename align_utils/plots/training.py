"""Figures of training: loss, reward, and the methods beside each other."""

from __future__ import annotations

import matplotlib
import pandas as pd
from matplotlib import pyplot as plt

from align_utils.plots.common import mark_figure, name_condition, pick_colour, put_legend_below


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
    return mark_figure(figure, mark)


METHOD_PANELS = {"reward_valid": "reward, validation cues", "kl": "KL to SFT (nats per list)"}


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
        len(METHOD_PANELS), len(cultures), figsize=(3.3 * len(cultures) + 0.4, 2.2 * len(METHOD_PANELS) + 0.9), sharex=True, sharey="row",
        squeeze=False,
    )  # fmt: skip
    for column, culture in enumerate(cultures):
        part = frame[frame["culture"] == culture]
        for row, (name, label) in zip(grid, METHOD_PANELS.items(), strict=True):
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
