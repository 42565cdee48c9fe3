"""How much two cultures' associations share: links between the words of two languages, overlap along them, and its chance lines."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import maximum_flow

from align_utils.config.profiles import Config
from align_utils.config.settings import Language
from align_utils.norms.split import CultureNorms, load_splits, pair_cultures
from align_utils.stats import bootstrap_interval, summarise
from align_utils.store.page import list_records
from align_utils.store.textfiles import find_optional, read_table, refuse

PARTNERS = ("same concept", "same domain", "any concept")
Both, Languages = tuple[pd.DataFrame, pd.DataFrame], tuple[Language, Language]
# Normalised word of the first language to the words of the second that may stand for it; many-to-many.
Links = dict[str, frozenset[str]]


def load_translations(cfg: Config, first: str, second: str) -> pd.DataFrame | None:
    """The reader's own `ALIGN_DATA/swow/translations.csv`, if there is one: its columns `first, second` as written.

    A column is named as a language of the run; one translation a row, a word in as many rows as it takes. DataError for an empty cell.
    """
    path = None if first == second else find_optional(cfg.data_dir / "swow", "translations.csv")
    if path is None:
        return None
    frame = read_table(path, [first, second])
    for name in (first, second):
        said = f"column '{name}': expected a word, found '{{{name}}}'; fill or remove the row, one translation a row"
        refuse(path, frame, frame[name].map(cfg.languages[name].normalise) == "", said)
    return frame.reset_index(drop=True)


def link_words(pairs: pd.DataFrame, norms: Both, languages: Languages, translations: pd.DataFrame | None = None) -> Links:
    """Which normalised words of two languages may stand for each other: the concept pairs, and a translation table where there is one.

    `norms` are read only if both cultures speak one language, where every response is linked to itself.
    """
    a, b = languages
    if a.name == b.name:
        words = pd.unique(pd.concat([frame["response"] for frame in norms]))
        return {form: frozenset([form]) for form in map(a.normalise, words)}
    tables = [pairs[[f"cue_{a.name}", f"cue_{b.name}"]].to_numpy()]
    if translations is not None:
        tables.append(translations[[a.name, b.name]].to_numpy())
    links: dict[str, set[str]] = {}
    for one, other in np.concatenate(tables):
        links.setdefault(a.normalise(one), set()).add(b.normalise(other))
    return {word: frozenset(others) for word, others in links.items()}


def match_mass(p: dict[str, int], q: dict[str, int], links: Links, *, totals: tuple[int, int] | None = None) -> float:
    """Largest share of two distributions (word to count) that can be matched along links, in [0, 1] (`compare_overlap`).

    `totals`: of counts, where p and q are but a part of them; default their own sums.

    ValueError for words with several counterparts and more than 2 ** 31 as the product of the two sums of counts.

    >>> match_mass({"big": 1, "large": 1}, {"大": 3, "树": 1}, {"big": frozenset("大"), "large": frozenset("大")})
    0.75
    """
    all_p, all_q = totals or (sum(p.values()), sum(q.values()))
    # Over the common denominator the shares are whole numbers, so that the flow is exact.
    gives, takes = np.fromiter(p.values(), np.int64) * all_q, np.fromiter(q.values(), np.int64) * all_p
    return float(_flow(gives, takes, *find_edges(p, q, links)) / (all_p * all_q))


def match_sets(a: Sequence[str], b: Sequence[str], links: Links) -> float:
    """Jaccard index across languages: the most words that can be paired off along links, over the size of the union.

    >>> match_sets(["big", "large"], ["大", "树"], {"big": frozenset("大"), "large": frozenset("大")})
    0.3333333333333333
    """
    common = int(_flow(np.ones(len(a), int), np.ones(len(b), int), *find_edges(a, b, links)))
    return common / (len(a) + len(b) - common)


def find_edges(a: Sequence[str], b: Sequence[str], links: Links) -> tuple[list[int], list[int]]:
    """Places in a and b of every linked couple, in the order of a."""
    places = {word: place for place, word in enumerate(b)}
    found = [(i, places[other]) for i, word in enumerate(a) for other in sorted(links.get(word, ())) if other in places]
    return [i for i, _ in found], [j for _, j in found]


def _flow(gives: np.ndarray, takes: np.ndarray, rows: list[int], columns: list[int]) -> int:
    """The most that can be moved along edges from what one side gives to what the other takes."""
    # No word has two counterparts here: nearly always so, and a hundred times faster than the general solution.
    if len(set(rows)) == len(rows) and len(set(columns)) == len(columns):
        return np.minimum(gives[rows], takes[columns]).sum()
    if gives.sum() > np.iinfo(np.int32).max:
        raise ValueError(
            f"match_mass: the product {gives.sum()} of the two sums of counts is too large for an exact flow in 32 bits (scipy's)"
        )
    source, sink = len(gives) + len(takes), len(gives) + len(takes) + 1
    tails = np.concatenate([np.full(len(gives), source), rows, len(gives) + np.arange(len(takes))])
    heads = np.concatenate([np.arange(len(gives)), len(gives) + np.array(columns), np.full(len(takes), sink)])
    room = np.concatenate([gives, gives[rows], takes]).astype(np.int32)  # of 64 bits scipy's flow makes 0
    return maximum_flow(coo_array((room, (tails, heads)), shape=(sink + 1, sink + 1)).tocsr(), source, sink).flow_value


def compare_overlap(norms: Both, pairs: pd.DataFrame, links: Links, languages: Languages, *, k: int) -> pd.DataFrame:
    """How much two cultures' associations share at least, per concept pair: a lower bound, since most words cannot be linked.

    A response is linked if `links` knows it, whether or not the other culture gave its counterpart. With p and q the shares of the
    responses among all that people gave to the two cues, the overlap is the largest mass that can be moved from p to q along the links,
    each word giving and taking no more than its share (a maximum flow). Where every word has one counterpart that is sum min(p_i, q_i). A
    word with several translations may spread over them but is never counted twice. More links can only add to it.

    The columns of `pairs` (`first`, `second`: cues) and `overlap` in [0, 1], `jaccard` (of the linked ones among the k strongest, words
    paired off along links; NaN where one side has none), `covered_first`, `covered_second` (share of the listed mass that is linked) and
    `covered`, the smaller, which the overlap cannot exceed.

    >>> from align_utils import config
    >>> cfg = config.load("smoke"); both = cfg.languages["en"], cfg.languages["zh"]
    >>> dog = pd.DataFrame({"cue": "dog", "response": ["cat", "bone"], "count": [3, 1], "rank": [1, 2]})
    >>> gou = pd.DataFrame({"cue": "狗", "response": ["猫", "家"], "count": [1, 1], "rank": [1, 2]})
    >>> links = {"cat": frozenset(["猫"]), "bone": frozenset(["骨头"])}
    >>> pair = pd.DataFrame({"first": ["dog"], "second": ["狗"]})
    >>> compare_overlap((dog, gou), pair, links, both, k=5)[["overlap", "jaccard", "covered"]].values.tolist()
    [[0.5, 0.5, 0.5]]
    """
    known = set(links), set().union(*links.values())
    lists = [_list_linked(*side, k) for side in zip(norms, known, languages, strict=True)]
    rows = []
    for pair in pairs.to_dict("records"):
        (p, p_top, p_all), (q, q_top, q_all) = (side[pair[name]] for side, name in zip(lists, ("first", "second"), strict=True))
        p_share, q_share = sum(p.values()) / p_all, sum(q.values()) / q_all
        rows.append({
            **pair, "overlap": match_mass(p, q, links, totals=(p_all, q_all)),
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


def compare_run(cfg: Config, people: dict[str, CultureNorms]) -> pd.DataFrame:
    """`compare_partners` of the run's first two cultures, over all their concept pairs."""
    first, second = list(people)[:2]
    frames, both, linked = _link_run(cfg, people, first, second)
    pairs = pair_cultures(load_splits(cfg), cfg, first, second)
    return compare_partners(frames, pairs, linked, both, k=max(cfg.profile.lexical.ks), rounds=10, seed=cfg.profile.seed)


def show_extremes(cfg: Config, people: dict[str, CultureNorms], extremes: pd.DataFrame, *, size: int = 6) -> pd.DataFrame:
    """`show_lists` of the concepts that `pick_extremes` has chosen of the run's first two cultures."""
    frames, both, linked = _link_run(cfg, people, *list(people)[:2])
    return show_lists(extremes, frames, linked, both, size=size)


def _link_run(cfg: Config, people: dict[str, CultureNorms], first: str, second: str) -> tuple[Both, Languages, Links]:
    frames = people[first].norms, people[second].norms
    both = cfg.language_of(first), cfg.language_of(second)
    translations = load_translations(cfg, both[0].name, both[1].name)
    return frames, both, link_words(load_splits(cfg), frames, both, translations)


def record_overlap(cfg: Config, overlap: pd.DataFrame) -> list[dict]:
    """Metric records `overlap_linked` and `overlap_covered` of `summarise_partners`; `method` names the partner."""
    pair = {"culture": "-".join(list(cfg.cultures)[:2]), "unit": "share"}
    named = overlap.rename(columns={"partner": "method"})
    covered = named.drop(columns=["value", "low", "high"]).rename(columns={"covered": "value"})
    return list_records(named, "overlap_linked", **pair) + list_records(covered, "overlap_covered", **pair)


def compare_partners(
    norms: Both, pairs: pd.DataFrame, links: Links, languages: Languages, *, k: int, rounds: int, seed: int
) -> pd.DataFrame:
    """`compare_overlap` of the true pairs (`split.pair_cultures`) and of two chance lines: partners of the same domain, and any.

    Beside its columns `partner` (one of PARTNERS) and `round` (0 for the true pairs).
    """
    wrong = [mismatch_pairs(pairs, within=within, rounds=rounds, seed=seed) for within in ("domain", None)]
    frames = [frame.assign(partner=name) for name, frame in zip(PARTNERS, (pairs.assign(round=0), *wrong), strict=True)]
    return compare_overlap(norms, pd.concat(frames, ignore_index=True), links, languages, k=k)


def summarise_partners(partners: pd.DataFrame, **settings) -> pd.DataFrame:
    """Mean overlap of the true pairs and of the chance lines, and how far the true pairs stand above each line.

    `partner, value, low, high, n` (first cues), `covered` (mean share of the mass that can be linked on both sides: no mean overlap exceeds
    it), `above, above_low, above_high` (mean over the first cues that have both; NaN in the first row). Families are resampled; that a partner serves several first cues is not modelled.
    """
    means = _average_rounds(partners)
    table = summarise(means, ["partner"], "overlap", unit="family", **settings)
    wide = means.pivot(index=["first", "family"], columns="partner", values="overlap")
    rows = []
    for name in table["partner"]:
        gap = (wide[PARTNERS[0]] - wide[name]).dropna() if name != PARTNERS[0] else wide.iloc[:0, 0]
        rows.append(bootstrap_interval(gap, gap.index.get_level_values("family"), **settings))
    # The shape holds for no row too: nothing may be linked at all.
    table["covered"] = table["partner"].map(partners.groupby("partner")["covered"].mean())
    table[["above", "above_low", "above_high"]] = np.array(rows, dtype=float).reshape(-1, 3)
    return table


def summarise_domains(partners: pd.DataFrame, **settings) -> pd.DataFrame:
    """Mean overlap per domain, true pairs beside wrong partners of the same domain: `label, group, value, low, high, n`.

    The lowest first; the label says how much of the domain's mass can be linked on both sides.
    """
    means = _average_rounds(partners[partners["partner"].isin(PARTNERS[:2])])
    table = summarise(means, ["domain", "partner"], "overlap", unit="family", **settings)
    true = table[table["partner"] == PARTNERS[0]].sort_values(["value", "domain"])
    order = {domain: place for place, domain in enumerate(true["domain"])}
    table = table[table["domain"].isin(order)].sort_values("domain", key=lambda names: names.map(order), kind="stable")
    table["n"] = table["domain"].map(true.set_index("domain")["n"])
    covered = partners[partners["partner"] == PARTNERS[0]].groupby("domain")["covered"].mean()
    table["domain"] = [f"{domain}, {covered[domain]:.0%} covered" for domain in table["domain"]]
    return table.rename(columns={"domain": "label", "partner": "group"}).reset_index(drop=True)


def pick_extremes(overlap: pd.DataFrame, *, size: int, covered: float = 0.5) -> pd.DataFrame:
    """The most and the least shared concepts (`side`, `size` rows each), of those with so much of the mass `covered` on both sides.

    Where little is linked, a low bound says nothing: two lists that both hold Starbucks can share nothing that is linked. The frame is empty
    where no concept is covered so well. Ties are broken by the linked mass, larger first, then by the cue.
    """
    known = overlap[overlap["covered"] >= covered]
    size = min(size, len(known) // 2)
    most = known.sort_values(["overlap", "covered", "first"], ascending=[False, False, True]).head(size)
    least = known.drop(most.index).sort_values(["overlap", "covered", "first"], ascending=[True, False, True]).head(size)
    return pd.concat([most.assign(side="most shared"), least.assign(side="least shared")], ignore_index=True)


def show_lists(pairs: pd.DataFrame, norms: Both, links: Links, languages: Languages, *, size: int) -> pd.DataFrame:
    """Concept pairs with both cultures' strongest responses side by side, for reading; `shared`: the links between the two whole lists.

    A response with a counterpart in the other whole list stands in [brackets]; one without is not shared or cannot be linked.
    """
    rows = []
    for pair in pairs.to_dict("records"):
        a, b = (
            {language.normalise(word): word for word in side.loc[side["cue"] == cue].sort_values("rank")["response"]}
            for side, language, cue in zip(norms, languages, (pair["first"], pair["second"]), strict=True)
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
    names = ["side", "first", "second", "domain", "overlap", "covered", "first responses", "second responses", "shared"]
    return pd.DataFrame(rows, columns=names)


def _average_rounds(partners: pd.DataFrame) -> pd.DataFrame:
    known = partners.dropna(subset="overlap")
    return known.groupby(["partner", "domain", "first", "family"], sort=False)["overlap"].mean().reset_index()


def _list_linked(norms: pd.DataFrame, known: set[str], language: Language, k: int) -> dict[str, tuple[dict, list, int]]:
    """Per cue: the linked forms with their counts, those of them among the k strongest, and the sum of all counts."""
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
    return {cue: (linked, list(top[cue]), mass[cue]) for cue, linked in counts.items()}
