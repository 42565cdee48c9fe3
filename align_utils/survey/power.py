"""What a number of items could have shown: power of the paired t test, in closed form."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import optimize, stats

from align_utils.survey.shifts import REFERENCE_SHIFTS, SHIFT_KEYS

ALPHA, POWER = 0.05, 0.8


def find_power(effect: float, n: int) -> float:
    """Power at ALPHA of the two-sided paired t test for an effect (mean / sd of the differences, at least 0), of n >= 2 pairs.

    Source
    ------
    Cohen (1988), section 2.3; the noncentral F distribution with one degree of freedom.

    Examples
    --------
    >>> round(find_power(0.5, 34), 3)
    0.808
    """
    if effect == 0:
        return ALPHA  # scipy's noncentral F is wrong there
    # The square of t: both tails at once, and stable where the noncentral t of scipy gives NaN.
    return float(stats.ncf.sf(stats.f.ppf(1 - ALPHA, 1, n - 1), 1, n - 1, n * effect**2))


def find_smallest(sd: float, n: int) -> float:
    """Smallest mean difference that n pairs of this standard deviation show with POWER; NaN below two pairs.

    Examples
    --------
    >>> round(find_smallest(1.0, 34), 2), find_smallest(0.0, 34)
    (0.5, 0.0)
    """
    if n < 2 or not np.isfinite(sd):
        return float("nan")
    # Power rises with the effect; at this upper end it is near 1 for any n.
    highest = (3 * stats.t.ppf(1 - ALPHA / 2, n - 1) + 5) / np.sqrt(n)
    return sd * float(optimize.brentq(lambda effect: find_power(effect, n) - POWER, 0, highest))


def summarise_power(shifts: pd.DataFrame, *, size: int) -> pd.DataFrame:
    """Per tuned answerer the spread of the per-item shifts, and the smallest mean shift that could have been seen.

    `shifts` are those of `shifts.measure_shifts`; `size` is a second number of items, that of the high-tension set.

    Returns
    -------
    DataFrame
        `shifts.SHIFT_KEYS` (targets and contrasts), `value` (observed mean), `sd` (over items), `n`, `smallest` (with all items),
        `size`, `smallest_of_size`; power 80 %, two-sided 5 %.
    """
    part = shifts[~shifts["stage"].isin(REFERENCE_SHIFTS.values()) & shifts["toward"].isin(["target", "contrast"])]
    means = part.groupby([*SHIFT_KEYS, "question"], sort=False)["shift"].mean()
    table = means.groupby(SHIFT_KEYS, sort=False).agg(value="mean", sd="std", n="size").reset_index()
    table["smallest"] = [find_smallest(sd, n) for sd, n in zip(table["sd"], table["n"], strict=True)]
    return table.assign(size=size, smallest_of_size=[find_smallest(sd, size) for sd in table["sd"]])
