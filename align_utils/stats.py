"""Intervals and paired tests, free of anything of the subject."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from scipy import optimize, stats
from scipy.sparse import coo_array
from scipy.special import rel_entr

# Chance with which the smallest shift that could have been seen is seen.
POWER = 0.8

# What stands beside a spread over seeds where there is one.
ALONE = "one seed: no interval over seeds"
# Level of every test; of a family the level after Holm.
ALPHA = 0.05


def bootstrap_interval(
    values: Sequence[float], groups: Sequence | None = None, *, statistic: Callable[..., np.ndarray] = np.mean,
    resamples: int, level: float, seed: int,
) -> tuple[float, float, float]:  # fmt: skip
    """Percentile bootstrap of a statistic, resampling whole groups (Efron and Tibshirani 1993, chapter 13): estimate, lower and upper end.

    `values` and `groups` have shape (n,): finite numbers (of a paired difference the differences), and the units drawn together
    (concept families; default every value alone). `statistic` is `numpy.mean` or `numpy.median`. Three NaN for no values, ends
    NaN for a single group; a ValueError for NaN or infinity.

    >>> bootstrap_interval([1.0, 1.0, 1.0], resamples=100, level=0.95, seed=0)
    (1.0, 1.0, 1.0)
    """
    values = np.asarray(values, dtype=float)
    if values.size == 0:
        return np.nan, np.nan, np.nan
    if not np.isfinite(values).all():
        raise ValueError("bootstrap_interval: values hold NaN or infinity; drop them first and state how many")
    codes = _number(np.arange(values.size) if groups is None else groups)
    sizes = np.bincount(codes)
    if len(sizes) == 1:
        # One unit says nothing of its own spread.
        return float(statistic(values)), np.nan, np.nan
    drawn = np.random.default_rng(seed).integers(len(sizes), size=(resamples, len(sizes)))
    if statistic is np.mean:
        estimates = np.bincount(codes, values)[drawn].sum(1) / sizes[drawn].sum(1)
    else:
        members = [values[codes == code] for code in range(len(sizes))]
        estimates = [statistic(np.concatenate([members[group] for group in row])) for row in drawn]
    return float(statistic(values)), *_cut(estimates, level)


def bootstrap_levels(
    values: Sequence[float], groups: Sequence, runs: Sequence, *, resamples: int, level: float, seed: int
) -> tuple[float, float, float]:
    """Estimate and ends of a mean, whole groups and whole training runs drawn anew (Owen 2007, the pigeonhole bootstrap).

    All of shape (n,), the values finite. With few runs the spread between them is itself poorly known.
    """
    values, rows, columns = np.asarray(values, dtype=float), _number(groups), _number(runs)
    sums, sizes = (coo_array((part, (rows, columns))).toarray() for part in (values, np.ones(len(values))))
    rng = np.random.default_rng(seed)
    often = [rng.multinomial(size, np.full(size, 1 / size), size=resamples) for size in sums.shape]
    totals, counts = (np.einsum("bg,gr,br->b", often[0], table, often[1]) for table in (sums, sizes))
    return float(values.mean()), *_cut(totals / counts, level)


def wilson_interval(successes: int, n: int, *, level: float) -> tuple[float, float]:
    """Wilson score interval of a proportion, in [0, 1] (scipy `binomtest`)."""
    interval = stats.binomtest(successes, n).proportion_ci(confidence_level=level, method="wilson")
    return float(interval.low), float(interval.high)


def mcnemar_exact(gained: int, lost: int) -> float:
    """Two-sided exact McNemar p from the two discordant counts; 1.0 when there are none.

    >>> mcnemar_exact(5, 0), mcnemar_exact(6, 0)
    (0.0625, 0.03125)
    """
    return 1.0 if gained + lost == 0 else float(stats.binomtest(gained, gained + lost, 0.5).pvalue)


def fisher_exact(first: int, second: int, n: int) -> float:
    """Two-sided Fisher p of two counts out of n each, as if they were independent.

    >>> round(fisher_exact(13, 25, 50), 3), round(fisher_exact(20, 24, 50), 2)
    (0.023, 0.55)
    """
    return float(stats.fisher_exact([[first, n - first], [second, n - second]]).pvalue)


def permute_signs(differences: Sequence[float], groups: Sequence, *, resamples: int, seed: int) -> float:
    """Two-sided p of a mean paired difference: signs are flipped at random, for whole groups together (scipy `permutation_test`).

    Exact where there are no more sign patterns than `resamples`; NaN for fewer than two groups.
    """
    sums = np.bincount(_number(groups), np.asarray(differences, dtype=float))
    if len(sums) < 2:
        return np.nan
    result = stats.permutation_test(
        (sums, np.zeros_like(sums)), lambda new, old, axis: (new - old).sum(axis=axis), permutation_type="samples",
        n_resamples=resamples, batch=10_000, vectorized=True, rng=np.random.default_rng(seed),
    )  # fmt: skip
    return float(result.pvalue)


def count_flips(resamples: int, tests: pd.DataFrame, family: Sequence[str]) -> int:
    """At least `resamples`, and so many that the smallest p of `permute_signs`, 2 / (n + 1), times the tests of a family is a tenth of ALPHA.

    `tests` has a row a test; those that are alike in the columns `family` are one family (all, where it names none).

    >>> count_flips(2000, pd.DataFrame({"model": ["a"] * 60 + ["b"] * 5}), ["model"])
    24000
    """
    largest = tests.groupby(list(family)).size().max() if family and len(tests) else len(tests)
    return max(resamples, int(np.ceil(20 * largest / ALPHA)))


def summarise(
    frame: pd.DataFrame, by: Sequence[str], value: str, *, unit: str, run: str | None = None,
    statistic: Callable[..., np.ndarray] = np.mean, **settings,
) -> pd.DataFrame:  # fmt: skip
    """Estimate and bootstrap interval of a column in every group: `by` columns in their order of appearance, `value, low, high, n`.

    `value` is the column summarised (NaN rows are left out and n counts the rest), `unit` that of the units drawn together,
    `run` that of the training run (seed). Where a group has several runs, the mean's interval is over units and runs
    (`bootstrap_levels`) and n counts the items of one run. `settings`: `resamples, level, seed` of `bootstrap_interval`.
    """
    rows = []
    for key, group in frame.dropna(subset=value).groupby(list(by), sort=False):
        runs = 1 if run is None else group[run].nunique()
        if runs > 1:
            interval = bootstrap_levels(group[value], group[unit], group[run], **settings)
        else:
            interval = bootstrap_interval(group[value], group[unit], statistic=statistic, **settings)
        rows.append([*key, *interval, len(group) // runs])
    return pd.DataFrame(rows, columns=[*by, "value", "low", "high", "n"])


def pair_conditions(
    frame: pd.DataFrame, by: Sequence[str], value: str, *, over: str, new: str, old: str, paired: Sequence[str], unit: str
) -> pd.DataFrame:
    """Differences new - old of two conditions (values of the column `over`), paired by the columns `paired`.

    Columns `by`, `paired`, `unit`, `comparison` ('new - old') and `difference`; what either side lacks is left out.
    """
    columns = [*by, *paired, value]
    both = frame.loc[frame[over] == new, list(dict.fromkeys([*columns, unit]))].merge(
        frame.loc[frame[over] == old, columns], on=[*by, *paired], suffixes=("", "_old")
    )
    both["difference"] = both[value] - both[f"{value}_old"]
    return both.assign(comparison=f"{new} - {old}").dropna(subset="difference")


def compare(
    frame: pd.DataFrame, by: Sequence[str], value: str, *, over: str, pairs: Sequence[tuple[str, str]], key: str, unit: str,
    run: str | None = None, family: Sequence[str] | None = None, **settings,
) -> pd.DataFrame:  # fmt: skip
    """Paired differences between conditions, with bootstrap intervals over units and the p of `permute_signs`.

    `over` is the column of the condition, `pairs` lists (new, old): the difference is new - old. `key` is what is paired (cue,
    question), `unit` what is drawn together. With `run`, the column of the training run, differences are taken within a run
    (see `summarise`), and effect and p are of each unit's mean over runs. `family` names those of `by` within which the p are
    one family: `p_holm` is added, and signs are flipped as often as the largest family needs (`count_flips`).

    Returns `by` columns, `comparison`, `value, low, high, n, effect, p`, and `p_holm`; `effect` is the mean difference in
    standard deviations of the differences (Cohen's d_z; NaN where they do not vary).
    """
    names, paired = [*by, "comparison"], [key] if run is None else [key, run]
    both = pd.concat(
        [pair_conditions(frame, by, value, over=over, new=new, old=old, paired=paired, unit=unit) for new, old in pairs]
    )
    table = summarise(both, names, "difference", unit=unit, run=run, **settings)
    means = both.groupby([*names, key, *({unit} - {key})], sort=False, as_index=False)["difference"].mean()
    cells = [cell for _, cell in means.groupby(names, sort=False)]
    # Differences without spread (all alike up to rounding) have no standardised size.
    spreads = [part["difference"].std() for part in cells]
    table["effect"] = [c["difference"].mean() / sd if sd > 1e-12 else np.nan for c, sd in zip(cells, spreads, strict=True)]
    flips = settings["resamples"] if family is None else count_flips(settings["resamples"], table, family)
    table["p"] = [permute_signs(cell["difference"], cell[unit], resamples=flips, seed=settings["seed"]) for cell in cells]
    return table if family is None else add_holm(table, family)


def add_holm(table: pd.DataFrame, family: Sequence[str]) -> pd.DataFrame:
    """`p_holm`: the column `p` adjusted by Holm's (1979) steps within the groups of `family`; of all rows where it names none.

    NaN stays NaN and is not counted; the index is unique.

    >>> add_holm(pd.DataFrame({"p": [0.01, 0.04, 0.03]}), [])["p_holm"].tolist()
    [0.03, 0.06, 0.06]
    """
    p = table["p"].astype(float).dropna().sort_values(kind="stable")
    group = [table.loc[p.index, name] for name in family] or np.zeros(len(p))
    left = p.groupby(group).cumcount(ascending=False) + 1
    return table.assign(p_holm=(left * p).groupby(group).cummax().clip(upper=1))


def repeat_runs(frame: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """A frame in which groups of one training run (`seed`) stand beside every run of the others, so that every difference is within a run.

    >>> frame = pd.DataFrame({"stage": ["untuned", "sft", "sft"], "seed": [1, 1, 7], "x": [5, 6, 8]})
    >>> repeat_runs(frame, ["stage"]).values.tolist()
    [['untuned', 1, 5], ['untuned', 7, 5], ['sft', 1, 6], ['sft', 7, 8]]
    """
    runs, frame = frame["seed"].unique(), frame.reset_index(drop=True)
    if len(runs) == 1:
        return frame
    fixed = frame.groupby(list(by))["seed"].transform("nunique") == 1
    both = pd.concat([frame[~fixed], *(frame[fixed].assign(seed=run) for run in runs)])
    return both.sort_index(kind="stable").reset_index(drop=True)


def spread_seeds(frame: pd.DataFrame, by: list[str], value: str) -> pd.DataFrame:
    """Mean of a column in every seed's run, and how far the seeds' means lie apart.

    `by` columns, a column a seed ('seed 7': its mean; NaN where a group lacks it), `mean` of the seeds' means, `sd` of them (n - 1;
    NaN for one seed), `seeds` (how many).

    >>> frame = pd.DataFrame({"stage": "sft", "seed": [1, 1, 7, 7], "x": [0.0, 1.0, 2.0, 3.0]})
    >>> spread_seeds(frame, ["stage"], "x").round(3).values.tolist()
    [['sft', 0.5, 2.5, 1.5, 1.414, 2]]
    """
    means = frame.groupby([*by, "seed"], sort=False)[value].mean()
    wide = means.unstack("seed", sort=False).rename(columns=lambda name: f"seed {name}")
    over = means.groupby(by, sort=False).agg(mean="mean", sd="std", seeds="count")
    return over.join(wide)[[*wide, *over]].reset_index()


def _number(labels: Sequence) -> np.ndarray:
    return np.unique(np.asarray(labels), return_inverse=True)[1]


def _cut(estimates: Sequence[float], level: float) -> tuple[float, float]:
    low, high = np.quantile(estimates, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def expect_seen(count: np.ndarray, total: np.ndarray | int, size: int) -> np.ndarray:
    """Chance that kinds seen `count` times among `total` tokens are in a sample of `size`, drawn without replacement: in [0, 1]."""
    return 1 - stats.hypergeom.pmf(0, total, count, size)


def expect_types(count: np.ndarray, total: np.ndarray, size: int) -> pd.DataFrame:
    """What kinds seen `count` times among `total` tokens are expected to contribute to a sample of `size`, drawn without replacement.

    `set_size` (`expect_seen`), `set_size_2` (twice or more), `entropy` (bits); one row a kind, each 0 or more. A
    sample shows fewer kinds than the whole, so two collections can be compared only at one size. Source: Hurlbert (1971),
    Ecology 52, 577 (rarefaction; the entropy is the same expectation over the hypergeometric distribution).
    """
    times = np.arange(1, min(count.max(initial=0), size) + 1)
    once = expect_seen(count, total, size)
    twice = once - stats.hypergeom.pmf(1, total, count, size)
    chances = stats.hypergeom.pmf(times, total[:, None], count[:, None], size)
    return pd.DataFrame({"set_size": once, "set_size_2": twice, "entropy": chances @ (-times / size * np.log2(times / size))})


def jensen_shannon(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Jensen-Shannon divergence (base 2) of distributions row by row, in [0, 1]; its root is a distance.

    scipy's `jensenshannon`, that root, is NaN where rounding makes the divergence of rows that are alike negative.
    """
    middle = (p + q) / 2
    return np.clip((rel_entr(p, middle) + rel_entr(q, middle)).sum(axis=-1) / (2 * np.log(2)), 0.0, 1.0)


def judge_change(value: float, low: float, high: float, *, margin: float) -> str:
    """What an interval says of a change: `up`, `down`, `flat` (all of it within the margin of 0), else `undecided`.

    A change whose interval is on one side of 0 but within the margin is `flat` too: it is there, and too small to matter.
    `margin`, above 0 and in the measure's unit like the rest, is the largest change that does not matter.

    >>> [judge_change(*change, margin=0.03) for change in ((0.1, 0.05, 0.2), (0.1, -0.05, 0.2), (0.0, -0.02, 0.02), (-0.1, -0.2, -0.02))]
    ['up', 'undecided', 'flat', 'down']
    """
    if -margin <= low and high <= margin:
        return "flat"
    return "up" if low > 0 else "down" if high < 0 else "undecided"


def find_power(effect: float, n: int) -> float:
    """Power at ALPHA of the two-sided paired t test for an effect (mean / sd of the differences, at least 0), of n >= 2 pairs.

    Source: Cohen (1988), section 2.3; the noncentral F distribution with one degree of freedom.

    >>> round(find_power(0.5, 34), 3)
    0.808
    """
    if effect == 0:
        return ALPHA  # scipy's noncentral F is wrong there
    # The square of t: both tails at once, and stable where the noncentral t of scipy gives NaN.
    return float(stats.ncf.sf(stats.f.ppf(1 - ALPHA, 1, n - 1), 1, n - 1, n * effect**2))


def find_smallest(sd: float, n: int) -> float:
    """Smallest mean difference that n pairs of this standard deviation show with POWER; NaN below two pairs.

    >>> round(find_smallest(1.0, 34), 2), find_smallest(0.0, 34)
    (0.5, 0.0)
    """
    if n < 2 or not np.isfinite(sd):
        return float("nan")
    # Power rises with the effect; at this upper end it is near 1 for any n.
    highest = (3 * stats.t.ppf(1 - ALPHA / 2, n - 1) + 5) / np.sqrt(n)
    return sd * float(optimize.brentq(lambda effect: find_power(effect, n) - POWER, 0, highest))
