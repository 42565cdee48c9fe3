"""Figures of the norms: strength, set size, entropy, direction and overlap."""

import matplotlib
import numpy as np
import pandas as pd

from align_utils.plots.common import make_grid, mark_figure, pick_colour, put_legend_below, put_title


def plot_strength_by_rank(frame: pd.DataFrame, words: pd.DataFrame, *, mark: str = ""):
    """Association strength by rank, a panel a culture: the band of the middle half of the cues, and one cue's words on its line.

    `frame`: `culture, rank, strength, low, high` (median and quartiles over cues); `words`: `culture, cue, rank, strength,
    response` of one cue a culture.
    """
    cultures = list(frame["culture"].unique())
    figure, grid = make_grid(1, len(cultures), width=3.1, height=2.9, sharex=True, sharey=True)
    for axes, culture in zip(grid[0], cultures, strict=True):
        part, own = (table[table["culture"] == culture].sort_values("rank") for table in (frame, words))
        axes.fill_between(
            part["rank"], part["low"], part["high"], color="#BBBBBB", alpha=0.5, lw=0, label="middle half of all cues"
        )
        cue = own["cue"].iloc[0] if len(own) else ""
        axes.plot(own["rank"], own["strength"], marker="o", ms=4, color=pick_colour(culture), label=cue)
        for row in own.head(5).itertuples():
            axes.annotate(row.response, (row.rank, row.strength), xytext=(5, 3), textcoords="offset points", fontsize=8)
        axes.set(xlim=(0.5, 15.5), ylim=(0, None), xlabel="rank of the response", title=f"{culture}: {cue}")
        axes.set_xticks((1, 5, 10, 15))
    grid[0][0].set_ylabel("share of people's answers")
    put_title(figure, "How people's answers spread over words")
    return mark_figure(figure, mark)


def plot_structure(frame: pd.DataFrame, *, mark: str = ""):
    """Distributions over cues, the cultures on one axis: a row a basis (as listed, rarefied), a column a measure.

    `frame`: `culture, basis, measure, value`, one row a cue (`norms.describe.stack_measures`); finite values.
    """
    bases, measures = frame["basis"].unique(), frame["measure"].unique()
    figure, grid = make_grid(len(bases), len(measures), width=3.3, height=2.2, sharex="col")
    for row, basis in zip(grid, bases, strict=True):
        for axes, measure in zip(row, measures, strict=True):
            part = frame[(frame["basis"] == basis) & (frame["measure"] == measure)]
            edges = _choose_edges(frame.loc[frame["measure"] == measure, "value"])
            for culture, values in part.groupby("culture", sort=False)["value"]:
                weights = np.full(len(values), 1 / len(values))
                axes.hist(values, edges, weights=weights, histtype="stepfilled", alpha=0.25, color=pick_colour(culture))
                axes.hist(values, edges, weights=weights, histtype="step", lw=1.3, color=pick_colour(culture))
                axes.axvline(values.mean(), color=pick_colour(culture), ls="--", lw=1.2, label=f"{culture} (dashed: mean)")
            axes.set_title(basis)
        row[0].set_ylabel("share of cues")
    for axes, measure in zip(grid[-1], measures, strict=True):
        axes.set_xlabel(measure)
    put_legend_below(figure, grid[0][0])
    return mark_figure(figure, mark)


def plot_directions(frame: pd.DataFrame, *, mark: str = ""):
    """Forward against backward strength of the pairs that are listed both ways, from either word, one panel a culture, with the diagonal.

    `frame`: `culture, forward, backward, mutual` (`norms.describe.pair_directions`).
    """
    cultures, both = frame["culture"].unique(), frame[frame["mutual"]]
    figure, grid = make_grid(1, len(cultures), width=3.3, height=3, sharex=True, sharey=True)
    low, high = (both["forward"].min() * 0.8, both["forward"].max() * 1.25) if len(both) else (0.01, 1)
    for axes, culture in zip(grid[0], cultures, strict=True):
        part, count = both[both["culture"] == culture], (frame["culture"] == culture).sum()
        axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high), aspect="equal", xlabel="forward strength")
        style = {"gridsize": 18, "mincnt": 1, "cmap": "viridis_r", "linewidths": 0.2, "extent": np.log10([low, high] * 2)}
        drawn = axes.hexbin(part["forward"], part["backward"], xscale="log", yscale="log", **style)
        axes.plot([low, high], [low, high], color="black", lw=0.8, ls=":")
        whole = matplotlib.ticker.MaxNLocator(5, integer=True)
        figure.colorbar(drawn, ax=axes, shrink=0.7, ticks=whole, label="pairs")
        axes.set_title(f"{culture}: {len(part)} of {count} pairs are\nlisted both ways (drawn twice)")
        for axis in (axes.xaxis, axes.yaxis):
            # Plain numbers, such as 0.03.
            axis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 3)))
            axis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
            axis.set_minor_locator(matplotlib.ticker.NullLocator())
    grid[0][0].set_ylabel("backward strength")
    return mark_figure(figure, mark)


def _choose_edges(values: pd.Series) -> np.ndarray:
    """About 24 bins; whole numbers get bins around whole numbers, so that none falls between two."""
    if values.max() < 8:
        return np.histogram_bin_edges(values, bins=24)
    width = max(1, round((values.max() - values.min()) / 24))
    return np.arange(np.floor(values.min()), values.max() + width + 1, width) - 0.5
