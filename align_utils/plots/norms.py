"""Figures of the norms: strength, set size, entropy, direction and overlap."""

from __future__ import annotations

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

from align_utils.plots.common import PALETTE, draw_nothing, make_grid, mark_figure, pick_colour, pick_marker, put_legend_below


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
        axes.plot(part["rank"], part["strength"], marker=pick_marker(culture), ms=3, color=pick_colour(culture), label=culture)
        axes.fill_between(part["rank"], part["low"], part["high"], color=pick_colour(culture), alpha=0.15, lw=0)
    axes.set(xscale="log", yscale="log", xlabel="rank of the response", ylabel="strength (count / N)")
    ticks = [rank for rank in (1, 2, 3, 5, 10, 15, 20, 50, 100) if rank <= frame["rank"].max()]
    axes.set_xticks(ticks, map(str, ticks))
    axes.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
    _write_plain_numbers(axes.yaxis, (1, 2, 5))
    axes.set_title("Strength by rank: median and middle half of the cues")
    axes.legend()
    return mark_figure(figure, mark)


def plot_structure(frame: pd.DataFrame, *, mark: str = ""):
    """Distributions over cues, the cultures on one axis: a row a basis (as listed, rarefied), a column a measure.

    Parameters
    ----------
    frame : DataFrame
        `culture, basis, measure, value`, one row a cue (`norms.describe.stack_measures`); finite values.
    mark : str
        Watermark.

    Returns
    -------
    matplotlib.figure.Figure
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

    Parameters
    ----------
    frame : DataFrame
        `culture, forward, backward, mutual` (`norms.describe.pair_directions`).
    mark : str
        Watermark.

    Returns
    -------
    matplotlib.figure.Figure
    """
    cultures, both = frame["culture"].unique(), frame[frame["mutual"]]
    figure, grid = make_grid(1, len(cultures), width=3.3, height=3, sharex=True, sharey=True)
    low, high = (both["forward"].min() * 0.8, both["forward"].max() * 1.25) if len(both) else (0.01, 1)
    for axes, culture in zip(grid[0], cultures, strict=True):
        part, count = both[both["culture"] == culture], (frame["culture"] == culture).sum()
        axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high), aspect="equal", xlabel="forward strength")
        style = {
            "gridsize": 18,
            "mincnt": 1,
            "cmap": "viridis_r",
            "linewidths": 0.2,
            "extent": np.log10([low, high, low, high]),
        }
        drawn = axes.hexbin(part["forward"], part["backward"], xscale="log", yscale="log", **style)
        axes.plot([low, high], [low, high], color="black", lw=0.8, ls=":")
        whole = matplotlib.ticker.MaxNLocator(5, integer=True)
        figure.colorbar(drawn, ax=axes, shrink=0.7, ticks=whole, label="pairs")
        axes.set_title(f"{culture}: {len(part)} of {count} pairs are\nlisted both ways (drawn twice)")
        for axis in (axes.xaxis, axes.yaxis):
            _write_plain_numbers(axis, (1, 3))
    grid[0][0].set_ylabel("backward strength")
    return mark_figure(figure, mark)


def plot_overlap(frame: pd.DataFrame, means: pd.DataFrame, *, title: str, mark: str = ""):
    """Distribution of the overlap over concept pairs, beside that of wrong partners; dashed lines at the means.

    Parameters
    ----------
    frame : DataFrame
        `partner, overlap` (`norms.overlap.compare_partners`).
    means : DataFrame
        `partner, value, low, high, n, covered` (`norms.overlap.summarise_partners`), the first row for the true pairs.
    title, mark : str
        Title and watermark.

    Returns
    -------
    matplotlib.figure.Figure
    """
    if means.empty or not means["covered"].any():
        return draw_nothing(f"{title}: no response is linked across the languages", mark=mark)
    figure, axes = plt.subplots(figsize=(6.2, 4.0))
    edges = np.linspace(0, 1, 21)
    for colour, row in zip(PALETTE, means.itertuples(), strict=False):
        values = frame.loc[frame["partner"] == row.partner, "overlap"].dropna()
        weights = np.full(len(values), 1 / len(values))
        if row.Index == 0:
            axes.hist(values, edges, weights=weights, histtype="stepfilled", alpha=0.25, color=colour)
        axes.hist(values, edges, weights=weights, histtype="step", lw=1.4, color=colour)
        label = f"{row.partner}: mean {row.value:.3f} [{row.low:.3f}, {row.high:.3f}] of {row.covered:.3f} covered, n = {row.n} cues"
        axes.axvline(row.value, color=colour, ls="--", lw=1.2, label=label)
    axes.set(xlim=(0, 1), yscale="log", xlabel="overlap, at least (0 to 1)", ylabel="share of pairs (log)")
    axes.set_title(title)
    axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
    put_legend_below(figure, axes, columns=1)
    return mark_figure(figure, mark)


def _choose_edges(values: pd.Series) -> np.ndarray:
    """About 24 bins; whole numbers get bins around whole numbers, so that none falls between two."""
    if values.max() < 8:
        return np.histogram_bin_edges(values, bins=24)
    width = max(1, round((values.max() - values.min()) / 24))
    return np.arange(np.floor(values.min()), values.max() + width + 1, width) - 0.5


def _write_plain_numbers(axis, steps: tuple[int, ...]) -> None:
    """Ticks of a logarithmic axis at `steps` times powers of ten, written as 0.02."""
    axis.set_major_locator(matplotlib.ticker.LogLocator(subs=steps))
    axis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
    axis.set_minor_locator(matplotlib.ticker.NullLocator())
