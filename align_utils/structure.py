"""Structure of word-association norms: types and tokens, set size and entropy per cue, and the direction of associations.

How far cultures can be compared. Set size, entropy, the type/token ratio and the hapax share all grow or fall with the number of
people asked, so they are comparable only at equal numbers of tokens: `measure_cues` and `count_types` therefore give rarefied
values too, expectations over all samples of a fixed size. Lists that were cut to the strongest responses lack their long tail:
set size and entropy come out too low, and rarefying cannot bring the tail back. `listed` says how much of N a list holds, and
`take_complete` prefers the participants' own answers where a list is cut.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import hypergeom, spearmanr

from align_utils import norms as norm_files
from align_utils import stats
from align_utils.config import Language

# Below this share of N a list counts as cut. Published lists are whole; rounding of N after cleaning stays far above it.
WHOLE = 0.98


def take_complete(
    norms: pd.DataFrame, trials: pd.DataFrame | None, language: Language, responses: str
) -> tuple[pd.DataFrame, str]:
    """The norms whose lists are whole: the strengths themselves, else strengths counted anew from the participants' trials.

    Parameters
    ----------
    norms : DataFrame
        `cue, response, count, n`.
    trials : DataFrame or None
        `cue, R1, R2, R3` of the same culture; they may hold fewer cues and another panel than the strengths.
    language : Language
    responses : {'R1', 'R123'}

    Returns
    -------
    (DataFrame, str)
        The frame to measure, and what it is: 'strengths', 'participants', or 'strengths, lists cut' where nothing whole is there.
    """
    if norms["count"].sum() >= WHOLE * norms.groupby("cue")["n"].first().sum():
        return norms, "strengths"
    if trials is None or trials.empty:
        return norms, "strengths, lists cut"
    return norm_files.build_strengths(trials, language, responses), "participants"


def count_types(frames: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Types and tokens of the responses of each culture.

    Parameters
    ----------
    frames : dict of culture to DataFrame
        `cue, response, count, n`; for a comparison the cues should stand for the same concepts.

    Returns
    -------
    DataFrame
        One row a culture: `cues`, `tokens` (responses listed), `types` (distinct responses), `type_token` (types / tokens),
        `hapax` (share of the types that were given once in all), `types_at_equal_tokens` (expected types among as many tokens as
        the smallest culture has, drawn without replacement) and `listed` (tokens / sum of N, in (0, 1]).

    Examples
    --------
    >>> dog = pd.DataFrame({"cue": "dog", "response": ["cat", "bone"], "count": [3, 1], "n": 4})
    >>> count_types({"us": dog})[["tokens", "types", "type_token", "hapax"]].values.tolist()
    [[4.0, 2.0, 0.5, 0.5]]
    """
    totals = {name: frame.groupby("response")["count"].sum().to_numpy() for name, frame in frames.items()}
    smallest = min(counts.sum() for counts in totals.values())
    rows = []
    for name, counts in totals.items():
        tokens, asked = counts.sum(), frames[name].groupby("cue")["n"].first()
        seen = 1 - hypergeom.pmf(0, tokens, counts, smallest)
        rows.append({
            "culture": name, "cues": len(asked), "tokens": tokens, "types": len(counts), "type_token": len(counts) / tokens,
            "hapax": float(np.mean(counts == 1)), "types_at_equal_tokens": float(seen.sum()),
            "listed": tokens / asked.sum(),
        })  # fmt: skip
    return pd.DataFrame(rows)


def choose_tokens(frames: Sequence[pd.DataFrame], *, share: float = 0.95) -> int:
    """Largest number of tokens that at least `share` of the cues of every culture have: the size to rarefy to.

    Examples
    --------
    >>> frame = pd.DataFrame({"cue": ["dog", "dog", "sun"], "count": [3, 1, 9]})
    >>> choose_tokens([frame], share=1.0), choose_tokens([frame], share=0.5)
    (4, 9)
    """
    tokens = [frame.groupby("cue")["count"].sum() for frame in frames]
    return int(min(part.nlargest(math.ceil(share * len(part))).min() for part in tokens))


def measure_cues(norms: pd.DataFrame, *, tokens: int) -> pd.DataFrame:
    """Set size and entropy of every cue, as listed and at equal tokens.

    Parameters
    ----------
    norms : DataFrame
        `cue, response, count, n`, one row a cue and response.
    tokens : int
        Size of the samples of the rarefied measures, at least 1 (`choose_tokens`). Tokens are drawn without replacement from a
        cue's listed tokens, each equally likely; that one person never gives a response twice is not modelled.

    Returns
    -------
    DataFrame
        One row a cue: `tokens` (listed), `n`, `listed` (tokens / n), `set_size` (distinct responses), `set_size_2` (of them given
        at least twice, as in the University of South Florida norms), `entropy` (bits), `evenness` (entropy / log2 of the set
        size, in [0, 1]; NaN for a single response), `rarefied_set_size`, `rarefied_set_size_2`, `rarefied_entropy` (expected
        values among `tokens` tokens; NaN for a cue that has fewer).

    Source
    ------
    Hurlbert (1971), Ecology 52, 577 (expected types in a sample of fixed size); Nelson, McEvoy and Schreiber (2004), Behavior
    Research Methods 36, 402 (set size); De Deyne et al. (2019), Behavior Research Methods 51, 987 (response entropy).

    Examples
    --------
    >>> dog = pd.DataFrame({"cue": "dog", "response": ["cat", "bone"], "count": [2, 2], "n": 4})
    >>> measure_cues(dog, tokens=2)[["set_size", "entropy", "rarefied_set_size"]].round(3).values.tolist()
    [[2.0, 1.0, 1.667]]
    """
    total = norms.groupby("cue")["count"].transform("sum")
    share = norms["count"] / total
    rows = pd.DataFrame({
        "cue": norms["cue"], "set_size": 1, "set_size_2": (norms["count"] >= 2).astype(int), "entropy": -share * np.log2(share),
    })  # fmt: skip
    # A few thousand (count, total) combinations serve all rows of even the largest norms.
    keys = pd.DataFrame({"count": norms["count"], "total": total})
    unique = keys.drop_duplicates().query("total >= @tokens")
    expected = _expect(unique["count"].to_numpy(), unique["total"].to_numpy(), tokens).set_index(
        pd.MultiIndex.from_frame(unique)
    )
    expected = expected.add_prefix("rarefied_").reindex(pd.MultiIndex.from_frame(keys)).set_index(norms.index)
    summed = rows.groupby("cue").sum().join(expected.groupby(norms["cue"]).sum(min_count=1))
    asked = norms.groupby("cue").agg(tokens=("count", "sum"), n=("n", "first"))
    asked["listed"] = asked["tokens"] / asked["n"]
    frame = asked.join(summed).reset_index()
    # A single response has no spread to be even in.
    frame["evenness"] = frame["entropy"] / np.log2(frame["set_size"].where(frame["set_size"] > 1))
    return frame


def stack_measures(measures: dict[str, pd.DataFrame], *, tokens: int) -> pd.DataFrame:
    """Set size and entropy as listed and rarefied, one row a cue and measure, for `norm_plots.plot_structure`.

    Parameters
    ----------
    measures : dict of culture to DataFrame
        From `measure_cues`, all with the same `tokens`.

    Returns
    -------
    DataFrame
        `culture, basis, measure, value`; cues that cannot be rarefied are left out of that basis.
    """
    names = {"set_size": "set size (distinct responses)", "entropy": "response entropy (bits)"}
    bases = {"": "as listed", "rarefied_": f"among {tokens} responses a cue"}
    rows = [
        pd.DataFrame({"culture": culture, "basis": basis, "measure": label, "value": frame[prefix + name]})
        for prefix, basis in bases.items()
        for name, label in names.items()
        for culture, frame in measures.items()
    ]
    return pd.concat(rows, ignore_index=True).dropna(subset="value")


def compare_cues(
    first: pd.DataFrame, second: pd.DataFrame, pairs: pd.DataFrame, measures: Sequence[str], **settings
) -> pd.DataFrame:
    """Means of two cultures over the concepts that both measured, and their paired difference.

    Parameters
    ----------
    first, second : DataFrame
        From `measure_cues`.
    pairs : DataFrame
        `first`, `second` (cues) and `family` (`pairs.pair_cultures`).
    measures : sequence of str
        Columns of `measure_cues`; only the rarefied ones are comparable across unequal N.
    **settings
        `resamples, level, seed` of `stats.bootstrap_interval`.

    Returns
    -------
    DataFrame
        `measure`, `first`, `second` (means), `difference` (first - second) with `low, high` (bootstrap over families), `n`.
    """
    both = pairs.merge(first, left_on="first", right_on="cue").merge(
        second, left_on="second", right_on="cue", suffixes=("_1", "_2")
    )
    rows = []
    for measure in measures:
        part = both.dropna(subset=[f"{measure}_1", f"{measure}_2"])
        a, b = part[f"{measure}_1"], part[f"{measure}_2"]
        difference, low, high = stats.bootstrap_interval(a - b, part["family"], **settings)
        rows.append([measure, a.mean(), b.mean(), difference, low, high, len(part)])
    return pd.DataFrame(rows, columns=["measure", "first", "second", "difference", "low", "high", "n"])


def pair_directions(norms: pd.DataFrame, language: Language) -> pd.DataFrame:
    """Forward and backward strength of every listed pair of which both words are cues.

    Parameters
    ----------
    norms : DataFrame
        `cue, response, count, n`. Cues that normalise alike are one word: their counts and their N are summed.

    Returns
    -------
    DataFrame
        `cue, response` (normalised, never the same word), `forward` = strength(cue, response) in (0, 1], `backward` =
        strength(response, cue) in [0, 1], 0 where the reverse is not listed, `mutual` (it is listed). A pair listed both ways has
        two rows. In cut lists 0 means below the cut, so `mutual` is a lower bound there.

    Examples
    --------
    >>> from align_utils import config
    >>> en = config.load("smoke").languages["en"]
    >>> frame = pd.DataFrame({"cue": ["dog", "dog", "cat"], "response": ["cat", "bone", "Dog"], "count": [4, 2, 1], "n": 10})
    >>> pair_directions(frame, en).values.tolist()
    [['cat', 'dog', 0.1, 0.4, True], ['dog', 'cat', 0.4, 0.1, True]]
    """
    words = pd.unique(pd.concat([norms["cue"], norms["response"]]))
    forms = {word: language.normalise(word) for word in words}
    asked = norms.groupby("cue")["n"].first()
    asked = asked.groupby(asked.index.map(forms)).sum()
    counts = norms.groupby([norms["cue"].map(forms), norms["response"].map(forms)])["count"].sum().reset_index()
    counts = counts[counts["response"].isin(asked.index) & (counts["cue"] != counts["response"])]
    # The cast is for norms without a single pair of cues, where `map` gives text.
    counts["forward"] = counts["count"] / counts["cue"].map(asked).astype(float)
    reverse = counts[["cue", "response", "forward"]].set_axis(["response", "cue", "backward"], axis=1)
    frame = counts.drop(columns="count").merge(reverse, on=["cue", "response"], how="left")
    frame["mutual"] = frame["backward"].notna()
    return frame.astype({"backward": float}).fillna({"backward": 0.0})


def describe_asymmetry(directions: dict[str, pd.DataFrame], **settings) -> pd.DataFrame:
    """How symmetric associations are, one row a culture.

    Parameters
    ----------
    directions : dict of culture to DataFrame
        From `pair_directions`.
    **settings
        `resamples, level, seed` of `stats.bootstrap_interval`.

    Returns
    -------
    DataFrame
        `culture`, `pairs` (rows), `mutual` with `low, high` (share of the pairs of which the reverse is listed; bootstrap over
        cues), `spearman` (forward against backward over the mutual pairs, both ways round, so that it depends on no order; NaN
        for fewer than three pairs), `difference_p10, _p50, _p90` (forward - backward over all rows, unlisted reverse = 0).

    Source
    ------
    Nelson, McEvoy and Schreiber (2004): forward and backward strength.
    """
    rows = []
    for name, frame in directions.items():
        share, low, high = stats.bootstrap_interval(frame["mutual"].astype(float), frame["cue"], **settings)
        both, difference = frame[frame["mutual"]], frame["forward"] - frame["backward"]
        rank = spearmanr(both["forward"], both["backward"]).statistic if len(both) >= 6 else np.nan
        tenths = {f"difference_p{q}": difference.astype(float).quantile(q / 100) for q in (10, 50, 90)}
        row = {"culture": name, "pairs": len(frame), "mutual": share, "low": low, "high": high, "spearman": rank}
        rows.append({**row, **tenths})
    return pd.DataFrame(rows)


def _expect(count: np.ndarray, total: np.ndarray, tokens: int) -> pd.DataFrame:
    """Expected contribution of a response given `count` times among `total` tokens, in a sample of `tokens` (hypergeometric)."""
    times = np.arange(1, min(count.max(initial=0), tokens) + 1)
    once = 1 - hypergeom.pmf(0, total, count, tokens)
    twice = once - hypergeom.pmf(1, total, count, tokens)
    chances = hypergeom.pmf(times, total[:, None], count[:, None], tokens)
    return pd.DataFrame(
        {"set_size": once, "set_size_2": twice, "entropy": chances @ (-times / tokens * np.log2(times / tokens))}
    )
