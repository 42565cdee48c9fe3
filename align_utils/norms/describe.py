"""What the norms are like: set size, entropy, direction, and how much two cultures share."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import hypergeom, spearmanr

from align_utils.config.settings import Language
from align_utils.norms.links import Links, find_edges, match_mass, match_sets
from align_utils.norms.strengths import build_strengths
from align_utils.stats import bootstrap_interval, expect_types, summarise

# Below this share of N a list counts as cut. Published lists are whole; rounding of N after cleaning stays far above it.
WHOLE = 0.98


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
    """Set size and entropy of every cue, as listed and expected among `tokens` of its tokens (drawn without replacement).

    `tokens` (listed), `n`, `listed` (tokens / n), `set_size` (distinct responses), `set_size_2` (of them given at least twice),
    `entropy` (bits), `evenness` (entropy / log2 of the set size, in [0, 1]; NaN for a single response), and `rarefied_` set sizes and
    entropy (NaN for a cue that has fewer tokens). That one person never gives a response twice is not modelled.

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
    expected = expect_types(unique["count"].to_numpy(), unique["total"].to_numpy(), tokens).set_index(
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


PARTNERS = ("same concept", "same domain", "any concept")


def compare_overlap(
    first: pd.DataFrame,
    second: pd.DataFrame,
    pairs: pd.DataFrame,
    links: Links,
    languages: tuple[Language, Language],
    *,
    k: int,
) -> pd.DataFrame:
    """Overlap of two cultures' associations per concept pair, over the responses that can be linked at all.

    A response is linked if `links` knows it, whether or not the other culture gave its counterpart. With p and q the shares of
    the linked responses, the overlap is the largest mass that can be moved from p to q along the links, each word giving and
    taking no more than its share (a maximum flow). Where every word has one counterpart that is sum min(p_i, q_i). A word with
    several translations may spread over them but is never counted twice.

    The columns of `pairs` (`first`, `second`: cues) and `overlap` in [0, 1] (NaN where one side has no linked response), `jaccard` (of
    the linked ones among the k strongest, words paired off along links), `covered_first`, `covered_second` (share of the listed mass that
    is linked) and `covered`, the smaller.

    Examples
    --------
    >>> from align_utils import config
    >>> cfg = config.load("smoke"); both = cfg.languages["en"], cfg.languages["zh"]
    >>> dog = pd.DataFrame({"cue": "dog", "response": ["cat", "bone"], "count": [3, 1], "rank": [1, 2]})
    >>> gou = pd.DataFrame({"cue": "狗", "response": ["猫", "家"], "count": [1, 1], "rank": [1, 2]})
    >>> links = {"cat": frozenset(["猫"]), "bone": frozenset(["骨头"])}
    >>> pair = pd.DataFrame({"first": ["dog"], "second": ["狗"]})
    >>> compare_overlap(dog, gou, pair, links, both, k=5)[["overlap", "jaccard", "covered"]].values.tolist()
    [[0.75, 0.5, 0.5]]
    """
    known = set(links), set().union(*links.values())
    lists = [_list_linked(*side, k) for side in zip((first, second), known, languages, strict=True)]
    rows = []
    for pair in pairs.to_dict("records"):
        (p, p_top, p_share), (q, q_top, q_share) = (
            side[pair[name]] for side, name in zip(lists, ("first", "second"), strict=True)
        )
        rows.append({
            **pair, "overlap": match_mass(p, q, links) if p and q else np.nan,
            "jaccard": match_sets(p_top, q_top, links) if p_top and q_top else np.nan,
            "covered_first": p_share, "covered_second": q_share, "covered": min(p_share, q_share),
        })  # fmt: skip
    return pd.DataFrame(rows)


def mismatch_pairs(pairs: pd.DataFrame, *, within: str | None, rounds: int, seed: int) -> pd.DataFrame:
    """The pairs with wrong partners: every first cue beside the second cue of another concept, of the same `within` (domain) or any.

    In each of `rounds` the order is shuffled and every cue takes the next one's partner. A partner from the same family is no wrong
    one, and a group of one has none: such rows are left out.
    """
    rng = np.random.default_rng(seed)
    groups = [pairs] if within is None else [part for _, part in pairs.groupby(within, sort=False)]
    parts = []
    for number in range(rounds):
        for group in groups:
            part = group.iloc[rng.permutation(len(group))]
            after = np.roll(np.arange(len(part)), -1)
            wrong = part.assign(second=part["second"].to_numpy()[after], round=number)
            parts.append(wrong[part["family"].to_numpy() != part["family"].to_numpy()[after]])
    return pd.concat(parts, ignore_index=True)


def compare_partners(
    first: pd.DataFrame,
    second: pd.DataFrame,
    pairs: pd.DataFrame,
    links: Links,
    languages: tuple[Language, Language],
    *,
    k: int,
    rounds: int,
    seed: int,
) -> pd.DataFrame:
    """`compare_overlap` of the true pairs (`split.pair_cultures`) and of two chance lines: partners of the same domain, and any.

    Beside its columns `partner` (one of PARTNERS) and `round` (0 for the true pairs).
    """
    wrong = [mismatch_pairs(pairs, within=within, rounds=rounds, seed=seed) for within in ("domain", None)]
    frames = [frame.assign(partner=name) for name, frame in zip(PARTNERS, (pairs.assign(round=0), *wrong), strict=True)]
    return compare_overlap(first, second, pd.concat(frames, ignore_index=True), links, languages, k=k)


def summarise_partners(partners: pd.DataFrame, value: str = "overlap", **settings) -> pd.DataFrame:
    """Mean overlap of the true pairs and of the chance lines, and how far the true pairs stand above each line.

    `partner, value, low, high, n` (first cues), `above, above_low, above_high` (mean over the first cues that have both; NaN in the first
    row). Families are resampled; that a partner serves several first cues is not modelled.
    """
    means = _average_rounds(partners, value)
    table = summarise(means, ["partner"], value, unit="family", **settings)
    wide = means.pivot(index=["first", "family"], columns="partner", values=value)
    rows = []
    for name in table["partner"]:
        gap = (wide[PARTNERS[0]] - wide[name]).dropna() if name != PARTNERS[0] else wide.iloc[:0, 0]
        rows.append(bootstrap_interval(gap, gap.index.get_level_values("family"), **settings))
    # The shape holds for no row too: nothing may be linked at all.
    table[["above", "above_low", "above_high"]] = np.array(rows, dtype=float).reshape(-1, 3)
    return table


def summarise_domains(partners: pd.DataFrame, value: str = "overlap", **settings) -> pd.DataFrame:
    """Mean overlap per domain, true pairs beside wrong partners of the same domain: `label, group, value, low, high, n`.

    The least shared domain first; domains without a linked true pair are left out.
    """
    means = _average_rounds(partners[partners["partner"].isin(PARTNERS[:2])], value)
    table = summarise(means, ["domain", "partner"], value, unit="family", **settings)
    true = table[table["partner"] == PARTNERS[0]].sort_values(["value", "domain"])
    order = {domain: place for place, domain in enumerate(true["domain"])}
    table = table[table["domain"].isin(order)].sort_values("domain", key=lambda names: names.map(order), kind="stable")
    table["n"] = table["domain"].map(true.set_index("domain")["n"])
    return table.rename(columns={"domain": "label", "partner": "group"}).reset_index(drop=True)


def pick_extremes(overlap: pd.DataFrame, *, size: int, share: float = 0.5) -> pd.DataFrame:
    """The most and the least shared concepts (`side`, `size` rows each), among the `share` of which most mass is linked on both sides.

    Where little is linked, one word makes the overlap 0 or 1. Ties are broken by the linked mass, larger first, then by the cue.
    """
    known = overlap.dropna(subset="overlap")
    known = known[known["covered"] >= known["covered"].quantile(1 - share)]
    size = min(size, len(known) // 2)
    most = known.sort_values(["overlap", "covered", "first"], ascending=[False, False, True]).head(size)
    least = known.drop(most.index).sort_values(["overlap", "covered", "first"], ascending=[True, False, True]).head(size)
    return pd.concat([most.assign(side="most shared"), least.assign(side="least shared")], ignore_index=True)


def show_lists(
    pairs: pd.DataFrame,
    first: pd.DataFrame,
    second: pd.DataFrame,
    links: Links,
    languages: tuple[Language, Language],
    *,
    size: int,
) -> pd.DataFrame:
    """Concept pairs with both cultures' strongest responses side by side, for reading; `shared`: the links between the two whole lists.

    A response with a counterpart in the other whole list stands in [brackets]; one without is not shared or cannot be linked.
    """
    rows = []
    for pair in pairs.to_dict("records"):
        a, b = (
            {language.normalise(word): word for word in norms.loc[norms["cue"] == cue].sort_values("rank")["response"]}
            for norms, language, cue in zip((first, second), languages, (pair["first"], pair["second"]), strict=True)
        )
        edges = [(list(a)[i], list(b)[j]) for i, j in zip(*find_edges(a, b, links), strict=True)]
        marked = {one for one, _ in edges}, {other for _, other in edges}
        texts = [
            ", ".join(f"[{word}]" if form in mark else word for form, word in list(words.items())[:size])
            for words, mark in zip((a, b), marked, strict=True)
        ]
        shared = ", ".join(f"{a[one]} {b[other]}" for one, other in edges[:size])
        rows.append({
            **{name: pair[name] for name in ("side", "first", "second", "domain", "overlap", "covered")},
            "first responses": texts[0], "second responses": texts[1], "shared": shared,
        })  # fmt: skip
    return pd.DataFrame(rows)


def _average_rounds(partners: pd.DataFrame, value: str) -> pd.DataFrame:
    known = partners.dropna(subset=value)
    return known.groupby(["partner", "domain", "first", "family"], sort=False)[value].mean().reset_index()


def _list_linked(norms: pd.DataFrame, known: set[str], language: Language, k: int) -> dict[str, tuple[dict, list, float]]:
    """Per cue: the linked forms with their counts, those of them among the k strongest, and the share of the mass linked."""
    forms = {word: language.normalise(word) for word in norms["response"].unique()}
    counts: dict[str, dict[str, int]] = {cue: {} for cue in norms["cue"].unique()}
    top: dict[str, dict[str, None]] = {cue: {} for cue in counts}
    # Plain lists: a frame cut into one piece a cue takes ten times as long.
    columns = (norms[name].tolist() for name in ("cue", "response", "count", "rank"))
    for cue, word, count, rank in sorted(zip(*columns, strict=True), key=lambda row: row[3]):
        form = forms[word]
        if form in known:
            counts[cue][form] = counts[cue].get(form, 0) + count
            if rank <= k:
                top[cue][form] = None
    mass = norms.groupby("cue")["count"].sum().to_dict()
    return {cue: (linked, list(top[cue]), sum(linked.values()) / mass[cue]) for cue, linked in counts.items()}
