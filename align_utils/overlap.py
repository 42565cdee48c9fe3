"""Overlap of two cultures' associations across languages: what links the words, how much is shared, and what chance would share."""

from __future__ import annotations

import numpy as np
import pandas as pd

from align_utils import stats
from align_utils.config import Language
from align_utils.links import Links, find_edges, match_mass, match_sets

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
    several translations may spread over them but is never counted twice, and two words do not become alike only because a third
    translates both, as they would in connected groups of translations.

    Parameters
    ----------
    first, second : DataFrame
        Norms of the two cultures: `cue, response, count, rank`.
    pairs : DataFrame
        `first`, `second` (cues); further columns are kept.
    links : dict
        From `links.link_words`.
    languages : two Languages
    k : int
        The sets of `jaccard` are the linked ones among each culture's k strongest responses.

    Returns
    -------
    DataFrame
        The columns of `pairs` and `overlap` in [0, 1] (NaN where one side has no linked response), `jaccard` in [0, 1] (largest
        number of words that can be paired off along links / size of the union; NaN where one side has none),
        `covered_first`, `covered_second` (share of the listed response mass that is linked) and `covered`, the smaller.

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
    """The pairs with wrong partners: every first cue beside the second cue of another concept.

    Parameters
    ----------
    pairs : DataFrame
        `first`, `second`, `domain`, `family`.
    within : str, optional
        Column whose value the wrong partner shares (`domain`); default any other concept.
    rounds, seed : int
        Independent shuffles; seed. In each the order is shuffled and every cue takes the next one's partner.

    Returns
    -------
    DataFrame
        The columns of `pairs` with `second` replaced, and `round`. A partner from the same family is no wrong one, and a group of
        one has none: such rows are left out.
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
    """`compare_overlap` of the true pairs and of two chance lines: partners from the same domain, and from anywhere.

    Parameters
    ----------
    pairs : DataFrame
        `first`, `second`, `domain`, `family` (`pairs.pair_cultures`).
    rounds, seed : int
        Shuffles of the chance lines; seed.

    Returns
    -------
    DataFrame
        As `compare_overlap`, with `partner` (one of PARTNERS) and `round` (0 for the true pairs).
    """
    wrong = [mismatch_pairs(pairs, within=within, rounds=rounds, seed=seed) for within in ("domain", None)]
    frames = [frame.assign(partner=name) for name, frame in zip(PARTNERS, (pairs.assign(round=0), *wrong), strict=True)]
    return compare_overlap(first, second, pd.concat(frames, ignore_index=True), links, languages, k=k)


def summarise_partners(partners: pd.DataFrame, value: str = "overlap", **settings) -> pd.DataFrame:
    """Mean overlap of the true pairs and of the chance lines, and how far the true pairs stand above each line.

    Parameters
    ----------
    partners : DataFrame
        From `compare_partners`.
    value : str
        `overlap` or `jaccard`.
    **settings
        `resamples, level, seed`; families are resampled. That a partner serves several first cues is not modelled.

    Returns
    -------
    DataFrame
        `partner, value, low, high, n` (first cues), `above`, `above_low, above_high` (true pair minus the line, mean over the first
        cues that have both; NaN in the first row).
    """
    means = _average_rounds(partners, value)
    table = stats.summarise(means, ["partner"], value, unit="family", **settings)
    wide = means.pivot(index=["first", "family"], columns="partner", values=value)
    rows = []
    for name in table["partner"]:
        gap = (wide[PARTNERS[0]] - wide[name]).dropna() if name != PARTNERS[0] else wide.iloc[:0, 0]
        rows.append(stats.bootstrap_interval(gap, gap.index.get_level_values("family"), **settings))
    # The shape holds for no row too: nothing may be linked at all.
    table[["above", "above_low", "above_high"]] = np.array(rows, dtype=float).reshape(-1, 3)
    return table


def summarise_domains(partners: pd.DataFrame, value: str = "overlap", **settings) -> pd.DataFrame:
    """Mean overlap per domain, the true pairs beside wrong partners from the same domain, for `plots.plot_intervals`.

    Parameters
    ----------
    partners, value, **settings
        As in `summarise_partners`.

    Returns
    -------
    DataFrame
        `label` (domain, least shared first), `group` (the first two of PARTNERS), `value, low, high`, `n` (true pairs with an
        overlap, on both rows). Domains without a linked true pair are left out.
    """
    means = _average_rounds(partners[partners["partner"].isin(PARTNERS[:2])], value)
    table = stats.summarise(means, ["domain", "partner"], value, unit="family", **settings)
    true = table[table["partner"] == PARTNERS[0]].sort_values(["value", "domain"])
    order = {domain: place for place, domain in enumerate(true["domain"])}
    table = table[table["domain"].isin(order)].sort_values("domain", key=lambda names: names.map(order), kind="stable")
    table["n"] = table["domain"].map(true.set_index("domain")["n"])
    return table.rename(columns={"domain": "label", "partner": "group"}).reset_index(drop=True)


def pick_extremes(overlap: pd.DataFrame, *, size: int, share: float = 0.5) -> pd.DataFrame:
    """The most and the least shared concepts, among the `share` of them of which most mass is linked on both sides.

    Where little is linked, one word makes the overlap 0 or 1. Ties are broken by the linked mass, larger first, then by the cue.

    Parameters
    ----------
    overlap : DataFrame
        From `compare_overlap`.
    size : int
        Rows of either side; fewer where there are not twice as many concepts.
    share : float
        In (0, 1].

    Returns
    -------
    DataFrame
        The columns of `overlap` and `side` ('most shared', 'least shared'); no concept is in both.
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
    """Concept pairs with both cultures' strongest responses side by side, for reading.

    Returns
    -------
    DataFrame
        `side`, `first`, `second`, `domain`, `overlap`, `covered`, the two lists of at most `size` responses, and `shared`: the
        links between the two whole lists, the strongest first. A response with a counterpart in the other whole list stands in
        [brackets]; one without brackets is not shared or cannot be linked.
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
