"""Log-shares without a scale's own profile: shifts along the countries' difference, and what each reading has in common with people."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from align_utils.config.profiles import Config
from align_utils.config.stages import POSITIVE
from align_utils.stats import add_holm, count_flips, find_smallest
from align_utils.survey.answers import ANSWERER, average_orders
from align_utils.survey.shifts import CELL, add_foreign, list_pairs

# Below this a share's logarithm is its rounding: published shares have two decimals.
FLOOR = 0.005
# A scale of fewer items has no mean profile of its own: such items share that of all their number of points.
FEWEST_ITEMS = 3
SLOPES = [*CELL, "against", "value", "low", "high", "rank", "n", "smallest", "p", "p_holm"]


def center_logs(shares: pd.DataFrame, items: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Log-shares without what any scale gets whatever is asked: `by`, `question, code, scale, log` (natural logarithms).

    From every logarithm (of a share of FLOOR at least) the item's mean over its options is taken, then the mean over the items of its
    scale at its place; `scale` is the item's, or the number of points where fewer than FEWEST_ITEMS have that scale. A liking for a
    place, alike on all items, leaves 0.
    """
    known = items[items["question"].isin(shares["question"])]
    often, points = known["scale"].map(known["scale"].value_counts()), known["codes"].str.len()
    scale = known["scale"].where(often >= FEWEST_ITEMS, points.astype(str) + " points")
    rows = known.assign(scale=scale, place=points.map(range)).explode(["codes", "place"]).rename(columns={"codes": "code"})
    rows = rows[["question", "scale", "code", "place"]].astype({"code": int, "place": int})
    frame = shares.assign(log=np.log(shares["share"].clip(lower=FLOOR))).merge(rows, on=["question", "code"])
    frame["log"] -= frame.groupby([*by, "question"])["log"].transform("mean")
    frame["log"] -= frame.groupby([*by, "scale", "place"])["log"].transform("mean")
    return frame[[*by, "question", "code", "scale", "log"]]


def measure_slopes(cfg: Config, averaged: pd.DataFrame, human: pd.DataFrame, items: pd.DataFrame) -> pd.DataFrame:
    """How far the change in log-shares goes along the countries' difference: a measure that does not ask how decided a model is.

    `averaged` are answers of models alone, from `average_orders` (of several seeds the mean logarithm is taken), `human` are
    SHARES, `items` from `choose_items`.

    Returns CELL (as in `measure_shifts`), `against` ('zero_shot'; of the culture's own norms also every control), `value`:
    slope of the change in centred log-shares (`center_logs`) on the target country's less the mean of the others', through 0: 1
    is the whole difference between the countries, 0 no movement along it; `low, high`: bootstrap over items; `rank`: Spearman's
    correlation over the options; `n` items; `smallest`: slope that would be seen (`find_smallest`); `p`: two-sided, the items'
    differences exchanged at random within a scale; `p_holm`: within a model, positive controls apart. Empty where all cultures
    are of one country.
    """
    country = {name: culture.survey_country for name, culture in cfg.cultures.items()}
    people = center_logs(human, items, ["culture"]).pivot(index=["question", "code"], columns="culture", values="log")
    aims = {
        culture: (people[culture] - people[others].mean(axis=1)).rename("aim")
        for culture in people
        if (others := [other for other in people if country[other] != country[culture]])
    }
    logs = center_logs(averaged, items, [*ANSWERER, "seed"]).rename(columns={"adapter": "culture"})
    logs = logs.groupby([*CELL, "question", "code", "scale"], sort=False)["log"].mean().reset_index()
    asked = ["model", "language", "persona"]
    untuned = dict(tuple(logs[logs["culture"] == "none"].groupby(asked, sort=False)))
    tuned = add_foreign(cfg, logs[logs["culture"] != "none"])
    cells, rows = dict(tuple(tuned.groupby(CELL, sort=False))), {}
    for (model, culture, stage, *how), own in cells.items():
        pairs = {"zero_shot": untuned[model, *how]} if culture in aims else {}
        for new, control in list_pairs(tuned) if pairs else []:
            if new == stage and (model, culture, control, *how) in cells:
                pairs[control] = cells[model, culture, control, *how]
        for against, old in pairs.items():
            both = own.merge(old[["question", "code", "log"]], on=["question", "code"], suffixes=("", "_old"))
            both = both.join(aims[culture], on=["question", "code"])
            rows[model, culture, stage, *how, against] = both.assign(change=both["log"] - both["log_old"])
    flips = count_flips(cfg.bootstrap["resamples"], pd.DataFrame({"model": [key[0] for key in rows]}), ["model"])
    table = [[*key, *_fit(part, flips, **cfg.bootstrap)] for key, part in rows.items()]
    table = pd.DataFrame(table, columns=SLOPES[:-1]).astype({"p": float})
    # A positive control is judged by its interval; it would only make the others' correction harder.
    tests = add_holm(table.assign(p=table["p"].mask(table["stage"].isin(POSITIVE))), ["model"])
    return table.assign(p_holm=tests["p_holm"])


def _fit(both: pd.DataFrame, flips: int, **bootstrap) -> tuple[float, ...]:
    """`value, low, high, rank, n, smallest, p` of the slope of `change` on `aim`."""
    products = both.assign(product=both["change"] * both["aim"], square=both["aim"] ** 2).groupby("question", sort=False)
    sums = products[["product", "square"]].sum()
    sums = sums[sums["square"] > 0]  # the only item of its number of points tells nothing
    if len(sums) < 2:
        return np.nan, np.nan, np.nan, np.nan, len(sums), np.nan, np.nan
    slope, *interval = _bootstrap(sums, lambda product, square: product / square, **bootstrap)
    rank = np.nan if both["change"].abs().max() < 1e-12 else stats.spearmanr(both["change"], both["aim"]).statistic
    # What an item adds to the slope, as in the delta method.
    parts = (sums["product"] - slope * sums["square"]) / sums["square"].mean()
    smallest = find_smallest(parts.std(), len(sums))
    return slope, *interval, rank, len(sums), smallest, _exchange(both, flips, bootstrap["seed"])


def _exchange(both: pd.DataFrame, flips: int, seed: int) -> float:
    """Two-sided p of the sum of products when items of a scale exchange their aims at random."""
    rng, total, drawn = np.random.default_rng(seed), 0.0, np.zeros(flips)
    for _, part in both.groupby("scale", sort=False):
        changes, aims = (
            np.stack([own[name].to_numpy() for _, own in part.groupby("question", sort=False)]) for name in ("change", "aim")
        )
        products, own = changes @ aims.T, np.arange(len(changes))
        total += np.trace(products)
        drawn += products[own, rng.permuted(np.tile(own, (flips, 1)), axis=1)].sum(axis=1)
    # Sums that differ by rounding alone are ties.
    return float((1 + (np.abs(drawn) >= np.abs(total) - 1e-12).sum()) / (1 + flips))


def compare_readings(answers: pd.DataFrame, human: pd.DataFrame, items: pd.DataFrame, **bootstrap) -> pd.DataFrame:
    """What each reading of the untuned model has in common with people of all countries, style apart; the best is `chosen`.

    No difference between countries enters: people's side is the mean share over the countries. `answers` are ANSWERS of the untuned
    model by all read-outs, the label first, `human` are SHARES, `items` from `choose_items`.

    Returns `model, language, readout`, `value` (correlation of the centred log-shares, `center_logs`, over the options of the
    items that every reading answers, in [-1, 1]), `low, high` (bootstrap over items), `n` (items), `chosen` (the highest of its
    model and language).
    """
    common = human.groupby(["question", "code"], sort=False)["share"].mean().reset_index()
    by, rows = ["model", "language"], []
    for cell, part in answers.groupby(by, sort=False):
        answered = part.groupby("question")["readout"].nunique()
        asked = set(answered.index[answered == part["readout"].nunique()]) & set(common["question"])
        aims = center_logs(common[common["question"].isin(asked)].assign(who="people"), items, ["who"])
        for readout, own in part[part["question"].isin(asked)].groupby("readout", sort=False):
            logs = center_logs(average_orders(own), items, ANSWERER)
            both = logs.merge(aims, on=["question", "code"], suffixes=("", "_aim"))
            products = both.assign(xy=both["log"] * both["log_aim"], xx=both["log"] ** 2, yy=both["log_aim"] ** 2)
            sums = products.groupby("question", sort=False)[["xy", "xx", "yy"]].sum()
            known = len(sums) > 1 and (sums[["xx", "yy"]].sum() > 0).all()
            found = _bootstrap(sums, lambda xy, xx, yy: xy / np.sqrt(xx * yy), **bootstrap) if known else [np.nan] * 3
            rows.append([*cell, readout, *found, len(sums)])
    table = pd.DataFrame(rows, columns=[*by, "readout", "value", "low", "high", "n"])
    # Where nothing is known of any, and among equals, the first: the label.
    best = table["value"].fillna(-np.inf).groupby([table[name] for name in by], sort=False).idxmax()
    return table.assign(chosen=table.index.isin(best))


def _bootstrap(
    items: pd.DataFrame, of_sums: Callable, *, resamples: int, level: float, seed: int
) -> tuple[float, float, float]:
    """A function of the columns' sums with its percentile interval, whole items drawn."""
    low, high = stats.bootstrap(
        tuple(items.to_numpy().T), lambda *columns, axis: of_sums(*(own.sum(axis=axis) for own in columns)), paired=True,
        vectorized=True, n_resamples=resamples, confidence_level=level, method="percentile", rng=np.random.default_rng(seed),
    ).confidence_interval  # fmt: skip
    return float(of_sums(*items.sum())), low, high
