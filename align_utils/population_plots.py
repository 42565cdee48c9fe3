"""The figure of the simulated participants: a tidy frame in, a matplotlib figure out."""

from __future__ import annotations

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

from align_utils import plots

PANELS = {
    "precision_top": "precision of the five strongest\n(people's five strongest)", "shared_mass": "shared mass",
    "js_distance": "Jensen-Shannon distance\n(0 = alike)", "distinct": "distinct responses a cue\n(diamond: people, equal number)",
}  # fmt: skip
# Share of an axis left free before 0 and beyond 1, so that a marker there is drawn whole.
ROOM = 0.04


def plot_population(frame: pd.DataFrame, *, mark: str = ""):
    """Simulated participants beside panels of people: a row a culture, a column a measure, a line a stage.

    Parameters
    ----------
    frame : DataFrame
        `culture, measure, stage, value, low, high, n`; of its measures those of PANELS are drawn, and `distinct_gap` gives the
        diamonds (people at the same number of responses). An empty frame makes a figure that says so.
    mark : str
        Watermark.

    Returns
    -------
    matplotlib.figure.Figure
    """
    cultures, stages = list(dict.fromkeys(frame["culture"])), list(dict.fromkeys(frame["stage"]))
    if not cultures:
        return plots.draw_nothing("no simulated participants in this run", mark=mark)
    figure, grid = plt.subplots(
        len(cultures), len(PANELS), figsize=(2.3 * len(PANELS) + 1.6, (0.27 * len(stages) + 0.6) * len(cultures) + 0.8),
        sharex="col", sharey=True, squeeze=False,
    )  # fmt: skip
    for row, culture in zip(grid, cultures, strict=True):
        part = frame[frame["culture"] == culture]
        for axes, (measure, label) in zip(row, PANELS.items(), strict=True):
            values = part[part["measure"] == measure].set_index("stage")
            for place, stage in enumerate(stages):
                if stage in values.index:
                    value, low, high = values.loc[stage, ["value", "low", "high"]]
                    errors = np.abs([[low - value], [high - value]])
                    axes.errorbar(value, place, xerr=errors, fmt="o", ms=4.5, color=plots.pick_colour(stage))
            if measure == "distinct":
                gaps = part[part["measure"] == "distinct_gap"].set_index("stage")["value"]
                expected = (values["value"] - gaps).dropna()
                places = [stages.index(stage) for stage in expected.index]
                axes.plot(expected, places, "D", ms=5, mfc="none", mec=plots.COLOURS["human"], ls="none")
            if culture == cultures[-1]:
                axes.set_xlabel(label)
            axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
            axes.grid(axis="y", visible=False)
        counts = part[part["measure"] == "precision_top"]["n"]
        row[0].set_title(f"{culture} (n={counts.max():.0f} cues)", loc="left")
    # Once all cultures are drawn, for a limit that is set ends the growing of the axis that a column shares.
    for axes, measure in zip(grid[0], PANELS, strict=True):
        high = axes.get_xlim()[1] if measure == "distinct" else 1 + ROOM
        axes.set_xlim(-ROOM * high, high)
    grid[0][0].set_yticks(range(len(stages)), [plots.name_condition(stage) for stage in stages])
    grid[0][0].set_ylim(len(stages) - 0.5, -0.5)
    return plots.mark_figure(figure, mark)
