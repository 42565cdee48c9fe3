"""What the norms are like: size, cleaning, match with the published ones, cue statistics, set size, entropy and direction."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from align_utils.config.profiles import Config
from align_utils.config.settings import RESPONSES, Language
from align_utils.norms.strengths import ReadNorms, build_strengths, normalise_words
from align_utils.stats import bootstrap_interval, expect_seen, expect_types

# Below this share of N a list counts as cut. Published lists are whole; rounding of N after cleaning stays far above it.
WHOLE = 0.98
# Share of the cues that set size and entropy are compared on, at as many tokens as each of them has.
RAREFIED = 0.95


def describe_norms(loaded: dict[str, ReadNorms]) -> pd.DataFrame:
    """One row a culture: cues, pairs, distinct responses, median N, trials, and what was repaired on reading."""
    rows = []
    for name, part in loaded.items():
        frame, read = part.norms, part.report[part.report["step"].str.startswith("read ") & (part.report["count"] > 0)]
        rows.append({
            "culture": name, "cues": frame["cue"].nunique(), "pairs": len(frame), "distinct responses": frame["response"].nunique(),
            "median N": frame.groupby("cue")["n"].first().median(), "trials": 0 if part.trials is None else len(part.trials),
            "repairs": "; ".join(f"{count} {what}" for count, what in zip(read["count"], read["what"], strict=True)) or "none",
        })  # fmt: skip
    return pd.DataFrame(rows)


def tabulate_cleaning(loaded: dict[str, ReadNorms]) -> pd.DataFrame:
    """What was repaired on reading and cleaned away per culture: `culture, step, what, count`, skipped steps included."""
    reports = {name: part.report for name, part in loaded.items()}
    return pd.concat(reports, names=["culture"]).reset_index("culture").reset_index(drop=True)


def summarise_ranks(norms: pd.DataFrame) -> pd.DataFrame:
    """Median and quartiles over cues of the strength at each rank that at least half of the cues reach."""
    quartiles = norms.groupby("rank")["strength"].quantile([0.25, 0.5, 0.75]).unstack()
    reached = norms.groupby("rank").size() >= norms["cue"].nunique() / 2
    return quartiles[reached].reset_index().set_axis(["rank", "low", "strength", "high"], axis=1)


def match_norms(cfg: Config, loaded: dict[str, ReadNorms]) -> pd.DataFrame:
    """How closely strengths counted from a culture's trials match its published ones (`compare_strengths`); a row where it has both."""
    rows = []
    for name, part in loaded.items():
        if part.trials is not None and part.published:
            language = cfg.language_of(name)
            ours = build_strengths(part.trials, language, cfg.profile.norms.responses)
            rows.append({"culture": name, **compare_strengths(ours, part.norms, language)})
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=["culture", "cues", "pairs"])


def compare_strengths(ours: pd.DataFrame, published: pd.DataFrame, language: Language) -> dict[str, float]:
    """How closely strengths counted from trials match the published ones, over the cues that both have.

    A published pair that ours lacks counts as 0; a pair of ours that the published list lacks is not compared (lists may be cut).
    `cues`, `pairs` (published), `found` (share of them in ours), `identical counts` (share), `largest difference` (in count),
    `correlation` (Pearson, of strengths; NaN where one side does not vary).
    """
    common = set(ours["cue"]) & set(published["cue"])
    theirs, mine = (
        frame[frame["cue"].isin(common)].assign(form=normalise_words(frame["response"], language)).set_index(["cue", "form"])
        for frame in (published, ours)
    )
    both = theirs.join(mine, suffixes=("", " ours"), validate="one_to_one").fillna({"count ours": 0, "strength ours": 0.0})
    difference = (both["count"] - both["count ours"]).abs()
    return {
        "cues": len(common), "pairs": len(both), "found": both["n ours"].notna().mean(), "identical counts": (difference == 0).mean(),
        "largest difference": difference.max(), "correlation": both["strength"].corr(both["strength ours"]),
    }  # fmt: skip


def measure_cue_stats(trials: pd.DataFrame, responses: str) -> pd.DataFrame:
    """Coverage, entropy and missing responses of every cue, the columns of `cueStats.SWOW-EN.R1` and `.R123`, sorted by cue.

    `coverage`: percent of the given responses that are cues themselves (the published files have NA for 0); `H`: entropy in
    nats; `unknown`: trials without R1; for R123 `xR2` (missing R2 beyond those) and `xR3` (missing R3 beyond the missing R2);
    `N`: responses asked for. A cue without any response has no coverage and no H. Source: SWOWEN-2018 `createCueStats.R` (R
    package entropy: natural logarithm, maximum likelihood).

    >>> rows = [("dog", "cat", "bone", ""), ("dog", "cat", "", ""), ("cat", "dog", "", ""), ("cat", "", "", "")]
    >>> table = measure_cue_stats(pd.DataFrame(rows, columns=["cue", "R1", "R2", "R3"]), "R123")
    >>> table.round(2).values.tolist()
    [['cat', 100.0, 0.0, 1, 1, 0, 6], ['dog', 66.67, 0.64, 0, 1, 1, 6]]
    """
    columns = ["R1"] if responses == "R1" else RESPONSES
    given = trials.melt("cue", columns, value_name="word").query("word != ''")
    counts = given.groupby(["cue", "word"]).size()
    tokens = counts.groupby("cue").sum()
    missing = (trials[columns] == "").groupby(trials["cue"]).sum()
    table = pd.DataFrame(index=missing.index)
    table["coverage"] = given["word"].isin(trials["cue"]).groupby(given["cue"]).sum() / tokens * 100
    # log N - sum(count log count) / N
    table["H"] = (np.log(tokens) - (counts * np.log(counts)).groupby("cue").sum() / tokens).clip(lower=0)
    table["unknown"] = missing["R1"]
    if len(columns) > 1:
        table["xR2"], table["xR3"] = missing["R2"] - missing["R1"], missing["R3"] - missing["R2"]
    table["N"] = trials.groupby("cue").size() * len(columns)
    return table.reset_index()


def describe_cues(loaded: dict[str, ReadNorms], responses: str) -> pd.DataFrame:
    """Means over cues of `measure_cue_stats` (coverage and entropy with their standard deviations), a row a culture with trials."""
    rows, labels = [], {"coverage": "coverage %", "H": "H (nats)"}
    for name, part in loaded.items():
        if part.trials is not None:
            cues = measure_cue_stats(part.trials, responses).rename(columns=labels)
            row = {"culture": name, "cues": len(cues), "median N": cues["N"].median()}
            for label in labels.values():
                row |= {label: cues[label].mean(), f"{label} sd": cues[label].std()}
            rows.append(row | cues.filter(["unknown", "xR2", "xR3"]).mean().to_dict())
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=["culture", "cues", "N"])


def take_complete(
    norms: pd.DataFrame, trials: pd.DataFrame | None, language: Language, responses: str
) -> tuple[pd.DataFrame, str]:
    """The norms whose lists are whole: the strengths themselves, else strengths counted anew from the participants' trials.

    Beside the frame what it is: 'strengths', 'participants' (fewer cues and another panel, perhaps), or 'strengths, lists cut' where
    nothing whole is there.
    """
    if norms["count"].sum() >= WHOLE * norms.groupby("cue")["n"].first().sum():
        return norms, "strengths"
    if trials is None or trials.empty:
        return norms, "strengths, lists cut"
    return build_strengths(trials, language, responses), "participants"


def count_types(frames: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Types and tokens of the responses of each culture; for a comparison the cues should stand for the same concepts.

    `cues`, `tokens` (responses listed), `types` (distinct responses), `type_token`, `hapax` (share of the types given once in all),
    `types_at_equal_tokens` (expected among as many tokens as the smallest culture has), `listed` (tokens / sum of N, in (0, 1]).

    >>> dog = pd.DataFrame({"cue": "dog", "response": ["cat", "bone"], "count": [3, 1], "n": 4})
    >>> count_types({"us": dog})[["tokens", "types", "type_token", "hapax"]].values.tolist()
    [[4.0, 2.0, 0.5, 0.5]]
    """
    totals = {name: frame.groupby("response")["count"].sum().to_numpy() for name, frame in frames.items()}
    smallest = min(counts.sum() for counts in totals.values())
    rows = []
    for name, counts in totals.items():
        tokens, asked = counts.sum(), frames[name].groupby("cue")["n"].first()
        rows.append({
            "culture": name, "cues": len(asked), "tokens": tokens, "types": len(counts), "type_token": len(counts) / tokens,
            "hapax": float(np.mean(counts == 1)), "types_at_equal_tokens": float(expect_seen(counts, tokens, smallest).sum()),
            "listed": tokens / asked.sum(),
        })  # fmt: skip
    return pd.DataFrame(rows)


def choose_tokens(frames: Sequence[pd.DataFrame]) -> int:
    """Largest number of tokens that at least RAREFIED of the cues of every culture have: the size to rarefy to.

    >>> choose_tokens([pd.DataFrame({"cue": ["dog", "dog", "sun"], "count": [3, 1, 9]})])
    4
    """
    tokens = [frame.groupby("cue")["count"].sum() for frame in frames]
    return int(min(part.nlargest(math.ceil(RAREFIED * len(part))).min() for part in tokens))


def measure_cues(norms: pd.DataFrame, *, tokens: int) -> pd.DataFrame:
    """Set size and entropy of every cue, as listed and expected among `tokens` of its tokens (drawn without replacement).

    `tokens` (listed), `n`, `listed` (tokens / n), `set_size` (distinct responses), `set_size_2` (of them given at least twice),
    `entropy` (bits), `evenness` (entropy / log2 of the set size, in [0, 1]; NaN for a single response), and `rarefied_` set
    sizes and entropy (NaN for a cue that has fewer tokens). That one person never gives a response twice is not modelled.
    Sources: Hurlbert (1971), Ecology 52, 577 (expected types in a sample of fixed size); Nelson, McEvoy and Schreiber (2004),
    Behavior Research Methods 36, 402 (set size); De Deyne et al. (2019), Behavior Research Methods 51, 987 (response entropy).

    >>> dog = pd.DataFrame({"cue": "dog", "response": ["cat", "bone"], "count": [2, 2], "n": 4})
    >>> measure_cues(dog, tokens=2)[["set_size", "entropy", "rarefied_set_size"]].round(3).values.tolist()
    [[2.0, 1.0, 1.667]]
    """
    total = norms.groupby("cue")["count"].transform("sum")
    share = norms["count"] / total
    rows = pd.DataFrame({
        "cue": norms["cue"], "count": norms["count"], "total": total, "set_size": 1, "set_size_2": (norms["count"] >= 2).astype(int),
        "entropy": -share * np.log2(share),
    })  # fmt: skip
    # A few thousand (count, total) combinations serve all rows of even the largest norms.
    unique = rows[["count", "total"]].drop_duplicates().query("total >= @tokens").reset_index(drop=True)
    expected = expect_types(unique["count"].to_numpy(), unique["total"].to_numpy(), tokens).add_prefix("rarefied_")
    rows = rows.merge(unique.join(expected), on=["count", "total"], how="left")
    asked = norms.groupby("cue").agg(tokens=("count", "sum"), n=("n", "first"))
    asked["listed"] = asked["tokens"] / asked["n"]
    frame = asked.join(rows.groupby("cue").sum(min_count=1).drop(columns=["count", "total"])).reset_index()
    # A single response has no spread to be even in.
    frame["evenness"] = frame["entropy"] / np.log2(frame["set_size"].where(frame["set_size"] > 1))
    return frame


def stack_measures(measures: dict[str, pd.DataFrame], *, tokens: int) -> pd.DataFrame:
    """`culture, basis, measure, value`: set size and entropy as listed and rarefied, for `plots.plot_structure`; what cannot be rarefied is left out."""
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
    """Means of two cultures (`measure_cues`) over the concepts that both measured, and their paired difference.

    `measure, first, second` (means), `difference` (first - second) with `low, high` (bootstrap over families), `n`. Only the rarefied
    measures are comparable across unequal N. `settings`: resamples, level and seed.
    """
    both = pairs.merge(first, left_on="first", right_on="cue").merge(
        second, left_on="second", right_on="cue", suffixes=("_1", "_2")
    )
    rows = []
    for measure in measures:
        part = both.dropna(subset=[f"{measure}_1", f"{measure}_2"])
        a, b = part[f"{measure}_1"], part[f"{measure}_2"]
        difference, low, high = bootstrap_interval(a - b, part["family"], **settings)
        rows.append([measure, a.mean(), b.mean(), difference, low, high, len(part)])
    return pd.DataFrame(rows, columns=["measure", "first", "second", "difference", "low", "high", "n"])


def pair_directions(norms: pd.DataFrame, language: Language) -> pd.DataFrame:
    """Forward and backward strength of every listed pair of which both words are cues; words that normalise alike are one.

    `cue, response` (never the same word), `forward` = strength(cue, response), `backward` = strength(response, cue), 0 where the reverse
    is not listed, `mutual` (it is). A pair listed both ways has two rows. In cut lists 0 means below the cut: `mutual` is a lower bound.

    >>> from align_utils import config
    >>> en = config.load("smoke").languages["en"]
    >>> frame = pd.DataFrame({"cue": ["dog", "dog", "cat"], "response": ["cat", "bone", "Dog"], "count": [4, 2, 1], "n": 10})
    >>> pair_directions(frame, en).values.tolist()
    [['cat', 'dog', 0.1, 0.4, True], ['dog', 'cat', 0.4, 0.1, True]]
    """
    again = norms["cue"].duplicated()
    norms = norms.assign(**{name: normalise_words(norms[name], language) for name in ("cue", "response")})
    asked = norms[~again].groupby("cue")["n"].sum()
    counts = norms.groupby(["cue", "response"])["count"].sum().reset_index()
    counts = counts[counts["response"].isin(asked.index) & (counts["cue"] != counts["response"])]
    # The cast is for norms without a single pair of cues, where `map` gives text.
    counts["forward"] = counts["count"] / counts["cue"].map(asked).astype(float)
    reverse = counts[["cue", "response", "forward"]].set_axis(["response", "cue", "backward"], axis=1)
    frame = counts.drop(columns="count").merge(reverse, on=["cue", "response"], how="left")
    frame["mutual"] = frame["backward"].notna()
    return frame.astype({"backward": float}).fillna({"backward": 0.0})


def describe_asymmetry(directions: dict[str, pd.DataFrame], **settings) -> pd.DataFrame:
    """How symmetric associations are, one row a culture, from `pair_directions` (Nelson, McEvoy and Schreiber 2004).

    `pairs`, `mutual` with `low, high` (bootstrap over cues), `spearman` (over the mutual pairs, both ways round; NaN for fewer than three),
    `difference_p10, _p50, _p90` (forward - backward over all rows, unlisted reverse = 0).
    """
    rows = []
    for name, frame in directions.items():
        share, low, high = bootstrap_interval(frame["mutual"].astype(float), frame["cue"], **settings)
        both, difference = frame[frame["mutual"]], frame["forward"] - frame["backward"]
        rank = spearmanr(both["forward"], both["backward"]).statistic if len(both) >= 6 else np.nan
        tenths = {f"difference_p{q}": difference.astype(float).quantile(q / 100) for q in (10, 50, 90)}
        row = {"culture": name, "pairs": len(frame), "mutual": share, "low": low, "high": high, "spearman": rank}
        rows.append({**row, **tenths})
    return pd.DataFrame(rows)
