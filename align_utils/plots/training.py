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

METHOD_PANELS = {"reward_valid": "reward, validation cues", "kl": "KL to SFT (nats per list)"}


def plot_loss(frame: pd.DataFrame, *, mark: str = ""):
    """Training and held-out loss by step, one panel a culture.

    `frame`: `culture, step, loss, eval_loss` (nats per completion token; NaN where not measured).
    """
    lines = [("loss", "training batch", COLOURS["zero_shot"], "-"), ("eval_loss", "validation cues", COLOURS["sft"], "o-")]
    title = "Does the loss fall on what is not taught?"
    return _plot_curves(frame, "step", {"loss (nats per token)": lines}, "optimiser step", title, mark)


def plot_reward(frame: pd.DataFrame, *, mark: str = ""):
    """PPO: reward of the sampled and of the validation lists, and KL to the SFT model, by update; a ring around the chosen checkpoint.

    `frame`: `culture, update, reward, reward_valid, kl, chosen` (NaN where not measured).
    """
    reward = [("reward", "sampled lists", COLOURS["zero_shot"], "-"), ("reward_valid", "validation cues", COLOURS["ppo"], "o-")]
    rows = {"reward": reward, METHOD_PANELS["kl"]: [("kl", "KL", COLOURS["us"], "-")]}
    return _plot_curves(
        _date_drawn(frame), "update", rows, "update", "Does the reward rise on cues that are not rewarded?", mark
    )


def _plot_curves(frame: pd.DataFrame, x: str, rows: dict[str, list[tuple]], x_label: str, title: str, mark: str):
    """A row an entry of lines (column, label, colour, style), a column a culture; a ring around what is `chosen`."""
    cultures = frame["culture"].unique()
    figure, grid = make_grid(len(rows), len(cultures), width=3.3, height=2.2, sharex=True, sharey="row")
    for row, (label, lines) in zip(grid, rows.items(), strict=True):
        for axes, culture in zip(row, cultures, strict=True):
            for name, text, colour, style in lines:
                known = frame[frame["culture"] == culture].dropna(subset=name)
                axes.plot(known[x], known[name], style, ms=4, color=colour, label=text)
                if "chosen" in known and "o" in style:
                    kept = known[known["chosen"].eq(True)]
                    axes.plot(kept[x], kept[name], "o", ms=10, mfc="none", color=colour, label="chosen")
        row[0].set_ylabel(label)
        row[-1].legend()
        if "reward" in label:
            _start_at_zero(row[0])
    put_title(figure, title)
    _name_columns(grid, cultures, x_label)
    return mark_figure(figure, mark)


def plot_methods(frame: pd.DataFrame, *, mark: str = ""):
    """Validation reward and KL by update, a line a method; the dotted line is the SFT model, a ring the chosen checkpoint.

    `frame`: `culture` (name of the column), `stage, update, reward_valid, kl, chosen`; NaN where not measured.
    """
    frame, cultures = _date_drawn(frame), frame["culture"].unique()
    figure, grid = make_grid(len(METHOD_PANELS), len(cultures), width=3.3, height=2.2, sharex=True, sharey="row")
    for column, culture in enumerate(cultures):
        part = frame[frame["culture"] == culture]
        for axes, name in zip(grid[:, column], METHOD_PANELS, strict=True):
            for stage, log in part.dropna(subset=name).groupby("stage", sort=False):
                style = {"color": pick_colour(stage), "label": name_condition(stage)}
                axes.plot(log["update"], log[name], "o-" if name == "reward_valid" else "-", ms=4, **style)
                if name == "reward_valid":
                    chosen = log[log["chosen"].eq(True)]
                    axes.plot(chosen["update"], chosen[name], "o", ms=9, mfc="none", color=pick_colour(stage))
        start = part.loc[part["update"] == 0, "reward_valid"].iloc[0]
        grid[0][column].axhline(start, color=COLOURS["sft"], ls=":", label=name_condition("sft"))
    for row, label in zip(grid, METHOD_PANELS.values(), strict=True):
        row[0].set_ylabel(label)
    _start_at_zero(grid[0][0])
    _name_columns(grid, cultures, "update")
    put_legend_below(figure, grid[0][0])
    return mark_figure(figure, mark)


def _date_drawn(frame: pd.DataFrame) -> pd.DataFrame:
    """What is measured on an update's own lists stands at the update before: they are drawn before its step, by the model that was there."""
    measured = frame.drop(columns=["reward", "kl"], errors="ignore")
    drawn = frame.drop(columns=["reward_valid", "chosen"]).assign(update=frame["update"] - 1)
    return pd.concat([measured, drawn], ignore_index=True)


def _start_at_zero(axes) -> None:
    # A reward lies in [0, 1]: an axis cut to its noise would show movement where there is none.
    axes.set_ylim(0, max(1.25 * axes.get_ylim()[1], 0.1))


def _name_columns(grid, cultures, x_label: str) -> None:
    for column, culture in zip(grid.T, cultures, strict=True):
        column[0].set_title(culture)
        column[-1].set_xlabel(x_label)
        show_whole_numbers(column[-1].xaxis)
