"""Figures of training: loss, reward, and the methods beside each other."""

import pandas as pd

from align_utils.plots.common import (
    COLOURS,
    make_grid,
    mark_figure,
    name_condition,
    pick_colour,
    put_legend_below,
    put_title,
    show_whole_numbers,
)

KL = "KL to SFT (nats per list)"


def plot_loss(frame: pd.DataFrame, *, mark: str = ""):
    """Training and held-out loss by step, one panel a culture.

    `frame`: `culture, step, loss, eval_loss` (nats per completion token; NaN where not measured).
    """
    taught = (frame, "loss", "training batch", COLOURS["zero_shot"], "-")
    rows = {"loss (nats per token)": [taught, (frame, "eval_loss", "validation cues", COLOURS["sft"], "o-")]}
    title = "Does the loss fall on what is not taught?"
    return mark_figure(_plot_curves(frame, rows, title=title, x="step", x_label="optimiser step"), mark)


def plot_reward(frame: pd.DataFrame, *, mark: str = ""):
    """PPO: reward of the sampled and of the validation lists, and KL to the SFT model, by update; a ring around the chosen checkpoint.

    `frame`: `culture, update, reward, reward_valid, kl, chosen` (NaN where not measured).
    """
    frame = _date_drawn(frame)
    sampled = (frame, "reward", "sampled lists", COLOURS["zero_shot"], "-")
    valid = (frame, "reward_valid", "validation cues", COLOURS["ppo"], "o-")
    rows = {"reward": [sampled, valid], KL: [(frame, "kl", "KL", COLOURS["us"], "-")]}
    title = "Does the reward rise on cues that are not rewarded?"
    return mark_figure(_plot_curves(frame, rows, title=title, ms=10, label="chosen"), mark)


def plot_methods(frame: pd.DataFrame, *, mark: str = ""):
    """Validation reward and KL by update, a line a method; the dotted line is the SFT model, a ring the chosen checkpoint.

    `frame`: `culture` (name of the column), `stage, update, reward_valid, kl, chosen`; NaN where not measured.
    """
    frame = _date_drawn(frame)
    rows: dict[str, list[tuple]] = {"reward, validation cues": [], KL: []}
    for stage, log in frame.groupby("stage", sort=False):
        for lines, column, style in zip(rows.values(), ("reward_valid", "kl"), ("o-", "-"), strict=True):
            lines.append((log, column, name_condition(stage), pick_colour(stage), style))
    figure = _plot_curves(frame, rows, ms=9)
    starts = frame[frame["update"] == 0].groupby("culture", sort=False)["reward_valid"].first()
    for axes, start in zip(figure.axes, starts, strict=False):  # the upper row
        axes.axhline(start, color=COLOURS["sft"], ls=":", label=name_condition("sft"))
    put_legend_below(figure, figure.axes[0])
    return mark_figure(figure, mark)


def plot_frontier(frame: pd.DataFrame, *, mark: str = ""):
    """Validation reward by KL, a line a method from the SFT model on: what a method earns for how far it has gone; a ring as above.

    `frame` as in `plot_methods`. The KL of the last update is not measured, so that it has no point.
    """
    both = _date_drawn(frame).groupby(["culture", "stage", "update"], sort=False, as_index=False).first()
    lines = [
        (log.dropna(subset=["kl"]), "reward_valid", name_condition(stage), pick_colour(stage), "o-")
        for stage, log in both.groupby("stage", sort=False)
    ]
    figure = _plot_curves(both, {"reward, validation cues": lines}, x="kl", x_label=KL, ms=9)
    put_legend_below(figure, figure.axes[0])
    return mark_figure(figure, mark)


def _plot_curves(frame: pd.DataFrame, rows: dict[str, list[tuple]], *, title: str = "", x="update", x_label="update", **ring):
    """A row an entry of lines (log, column, label, colour, style), a column a culture; a ring of this style around what is `chosen`.

    With a title every row has a legend.
    """
    cultures = frame["culture"].unique()
    figure, grid = make_grid(len(rows), len(cultures), width=3.3, height=2.2, sharex=True, sharey="row")
    for row, (y_label, lines) in zip(grid, rows.items(), strict=True):
        for axes, culture in zip(row, cultures, strict=True):
            for log, column, label, colour, style in lines:
                known = log[log["culture"] == culture].dropna(subset=column)
                axes.plot(known[x], known[column], style, ms=4, color=colour, label=label)
                if ring and "o" in style:
                    kept = known[known["chosen"].eq(True)]
                    axes.plot(kept[x], kept[column], "o", mfc="none", color=colour, **ring)
        row[0].set_ylabel(y_label)
        if "reward" in y_label:
            # A reward lies in [0, 1]: an axis cut to its noise would show movement where there is none.
            row[0].set_ylim(0, max(1.25 * row[0].get_ylim()[1], 0.1))
    for column, culture in zip(grid.T, cultures, strict=True):
        column[0].set_title(culture)
        column[-1].set_xlabel(x_label)
        if x != "kl":
            show_whole_numbers(column[-1].xaxis)
    if title:
        put_title(figure, title)
        for row in grid:
            row[-1].legend()
    return figure


def _date_drawn(frame: pd.DataFrame) -> pd.DataFrame:
    """What is measured on an update's own lists stands at the update before: they are drawn before its step, by the model that was there."""
    measured = frame.drop(columns=["reward", "kl"], errors="ignore")
    drawn = frame.drop(columns=["reward_valid", "chosen"]).assign(update=frame["update"] - 1)
    return pd.concat([measured, drawn], ignore_index=True)
