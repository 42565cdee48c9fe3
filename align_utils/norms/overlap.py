"""How much two cultures' associations share: links between the words of two languages, overlap along them, and its chance lines."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import maximum_flow

from align_utils.config.profiles import Config
from align_utils.config.settings import Culture, Language
from align_utils.norms.split import CultureNorms, load_splits, pair_cultures
from align_utils.norms.strengths import normalise_words
from align_utils.stats import summarise
from align_utils.store.page import list_records
from align_utils.store.textfiles import find_optional, read_table, refuse

PARTNERS = ("same concept", "same domain", "any concept")
SIDES = ("first", "second")
# Norms of two cultures with `form`, the normalised response.
Both = tuple[pd.DataFrame, pd.DataFrame]

# Of a concept that is shown: least mass that is linked on both sides, and responses of a list.
COVERED, LISTED = 0.5, 6


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


def link_words(
    pairs: pd.DataFrame, both: Both, languages: tuple[Language, Language], translations: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Which normalised words of two languages may stand for each other, many to many: `form_first, form_second`.

    They are those of the concept pairs and, where there is one, of a translation table. Of two cultures of one language (`both` is read for
    these alone) every response is linked to itself.
    """
    a, b = languages
    if a.name == b.name:
        forms = pd.unique(pd.concat([side["form"] for side in both]))
        return pd.DataFrame({"form_first": forms, "form_second": forms})
    table = pairs.rename(columns={f"cue_{name}": name for name in (a.name, b.name)})
    table = pd.concat([table[[a.name, b.name]], translations])
    links = {f"form_{side}": table[own.name].map(own.normalise) for side, own in zip(SIDES, languages, strict=True)}
    return pd.DataFrame(links).drop_duplicates(ignore_index=True)


def link_run(cfg: Config, people: dict[str, CultureNorms]) -> tuple[Both, pd.DataFrame]:
    """The norms of the run's first two cultures with `form`, the normalised response, and the links between them (`link_words`)."""
    names = list(people)[:2]
    a, b = (cfg.language_of(name) for name in names)
    first, second = (
        people[name].norms.assign(form=normalise_words(people[name].norms["response"], language))
        for name, language in zip(names, (a, b), strict=True)
    )
    return (first, second), link_words(load_splits(cfg), (first, second), (a, b), load_translations(cfg, a.name, b.name))


def find_edges(pairs: pd.DataFrame, both: Both, links: pd.DataFrame) -> pd.DataFrame:
    """Every linked couple of words in the lists of a pair of cues, in the order of the first list.

    `pair` (row of `pairs`, from 0) and, ending in `_first` and `_second`, `form`, `response`, `count` and `rank`.
    """
    first, second = (
        side[["cue", "form", "response", "count", "rank"]].add_suffix(f"_{name}").rename(columns={f"cue_{name}": name})
        for name, side in zip(SIDES, both, strict=True)
    )
    asked = pairs[[*SIDES]].reset_index(drop=True).reset_index(names="pair")
    edges = asked.merge(first.merge(links, on="form_first"), on="first").merge(second, on=["second", "form_second"])
    return edges.sort_values(["pair", "rank_first", "form_second"], ignore_index=True)


def compare_overlap(pairs: pd.DataFrame, both: Both, links: pd.DataFrame) -> pd.DataFrame:
    """How much two cultures' associations share at least, per concept pair: a lower bound, since most words cannot be linked.

    A response is linked if `links` knows it, whether or not the other culture gave its counterpart. With p and q the shares of the
    responses among all that people gave to the two cues, the overlap is the largest mass that can be moved from p to q along the links,
    each word giving and taking no more than its share (a maximum flow). Where every word has one counterpart that is sum min(p_i, q_i). A
    word with several translations may spread over them but is never counted twice. More links can only add to it.

    The columns of `pairs` (`first`, `second`: cues) and `overlap` in [0, 1]; `covered`, the share of the listed mass that is linked, of the
    side where that is smaller: the overlap cannot exceed it.

    >>> dog = pd.DataFrame({"cue": "dog", "response": ["cat", "bone"], "form": ["cat", "bone"], "count": [3, 1], "rank": [1, 2]})
    >>> gou = pd.DataFrame({"cue": "狗", "response": ["猫", "家"], "form": ["猫", "家"], "count": [1, 1], "rank": [1, 2]})
    >>> links = pd.DataFrame({"form_first": ["cat", "bone"], "form_second": ["猫", "骨头"]})
    >>> pair = pd.DataFrame({"first": ["dog"], "second": ["狗"]})
    >>> compare_overlap(pair, (dog, gou), links)[["overlap", "covered"]].values.tolist()
    [[0.5, 0.5]]
    """
    pairs, edges = pairs.reset_index(drop=True), find_edges(pairs, both, links)
    totals, covered = [], []
    for name, side in zip(SIDES, both, strict=True):
        linked = side["count"].where(side["form"].isin(links[f"form_{name}"]), 0)
        sums = pd.DataFrame({"linked": linked, "all": side["count"]}).groupby(side["cue"]).sum()
        totals.append(pairs[name].map(sums["all"]))
        covered.append(pairs[name].map(sums["linked"]) / totals[-1])
    # Over the common denominator the shares are whole numbers, so that the flow is exact.
    edges["gives"] = edges["count_first"] * edges["pair"].map(totals[1])
    edges["takes"] = edges["count_second"] * edges["pair"].map(totals[0])
    moved = edges[["gives", "takes"]].min(axis=1).groupby(edges["pair"]).sum().reindex(pairs.index, fill_value=0)
    # That was all where no word has two counterparts here: nearly always so, and a hundred times faster than the general solution.
    several = edges.duplicated(["pair", "form_first"]) | edges.duplicated(["pair", "form_second"])
    for pair, part in edges[edges["pair"].isin(edges.loc[several, "pair"])].groupby("pair"):
        moved[pair] = _flow(part)
    return pairs.assign(overlap=moved / (totals[0] * totals[1]), covered=np.minimum(*covered))


def _flow(edges: pd.DataFrame) -> int:
    """The most that can be moved along edges from what the words of one side give to what those of the other take."""
    (rows, first), (columns, second) = (pd.factorize(edges[f"form_{name}"]) for name in SIDES)
    gives, takes = (
        edges.drop_duplicates(f"form_{name}")[amount] for name, amount in zip(SIDES, ("gives", "takes"), strict=True)
    )
    source, sink = len(first) + len(second), len(first) + len(second) + 1
    tails = np.concatenate([np.full(len(first), source), rows, len(first) + np.arange(len(second))])
    heads = np.concatenate([np.arange(len(first)), len(first) + columns, np.full(len(second), sink)])
    room = np.concatenate([gives, edges["gives"], takes]).astype(np.int32)  # of 64 bits scipy's flow makes 0
    return maximum_flow(coo_array((room, (tails, heads)), shape=(sink + 1, sink + 1)).tocsr(), source, sink).flow_value


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


def compare_partners(pairs: pd.DataFrame, both: Both, links: pd.DataFrame, *, rounds: int, seed: int) -> pd.DataFrame:
    """`compare_overlap` of the true pairs (`split.pair_cultures`) and of two chance lines: partners of the same domain, and any.

    Beside its columns `partner` (one of PARTNERS) and `round` (0 for the true pairs).
    """
    wrong = [mismatch_pairs(pairs, within=within, rounds=rounds, seed=seed) for within in ("domain", None)]
    frames = [frame.assign(partner=name) for name, frame in zip(PARTNERS, (pairs.assign(round=0), *wrong), strict=True)]
    return compare_overlap(pd.concat(frames, ignore_index=True), both, links)


def compare_run(cfg: Config, people: dict[str, CultureNorms]) -> pd.DataFrame:
    """`compare_partners` of the run's first two cultures, over all their concept pairs."""
    pairs = pair_cultures(load_splits(cfg), cfg.cultures, *list(people)[:2])
    return compare_partners(pairs, *link_run(cfg, people), rounds=10, seed=cfg.profile.seed)


def summarise_partners(partners: pd.DataFrame, **settings) -> pd.DataFrame:
    """Mean overlap of the true pairs and of the chance lines: `partner, value, low, high, n` (first cues) and `covered`.

    `covered` is the mean share of the mass that can be linked on both sides: no mean overlap exceeds it. Families are resampled
    (`settings`: resamples, level and seed); that a partner serves several first cues is not modelled.
    """
    table = summarise(_average_rounds(partners), ["partner"], "overlap", unit="family", **settings)
    return table.assign(covered=table["partner"].map(partners.groupby("partner")["covered"].mean()))


def record_overlap(cultures: Mapping[str, Culture], overlap: pd.DataFrame) -> list[dict]:
    """Metric records `overlap_linked` and `overlap_covered` of `summarise_partners`; `method` names the partner."""
    pair = {"culture": "-".join(list(cultures)[:2]), "unit": "share"}
    named = overlap.rename(columns={"partner": "method"})
    covered = named.drop(columns=["value", "low", "high"]).rename(columns={"covered": "value"})
    return list_records(named, "overlap_linked", **pair) + list_records(covered, "overlap_covered", **pair)


def summarise_domains(partners: pd.DataFrame, **settings) -> pd.DataFrame:
    """Mean overlap per domain, true pairs beside wrong partners of the same domain: `label, group, value, low, high, n`.

    The lowest first; the label says how much of the domain's mass can be linked on both sides.
    """
    means = _average_rounds(partners[partners["partner"].isin(PARTNERS[:2])])
    table = summarise(means, ["domain", "partner"], "overlap", unit="family", **settings)
    order = table[table["partner"] == PARTNERS[0]].sort_values(["value", "domain"])["domain"].tolist()
    table = table.sort_values("domain", key=lambda names: names.map(order.index), kind="stable", ignore_index=True)
    covered = partners[partners["partner"] == PARTNERS[0]].groupby("domain")["covered"].mean()
    table["domain"] = [f"{domain}, {covered[domain]:.0%} covered" for domain in table["domain"]]
    return table.rename(columns={"domain": "label", "partner": "group"})


def pick_extremes(overlap: pd.DataFrame, *, size: int) -> pd.DataFrame:
    """The most and the least shared concepts (`side`, `size` rows each), of those with COVERED of the mass linked on both sides.

    Where little is linked, a low bound says nothing: two lists that both hold Starbucks can share nothing that is linked. The frame is empty
    where no concept is covered so well. Ties are broken by the linked mass, larger first, then by the cue.
    """
    known = overlap[overlap["covered"] >= COVERED]
    size = min(size, len(known) // 2)
    most = known.sort_values(["overlap", "covered", "first"], ascending=[False, False, True]).head(size)
    least = known.drop(most.index).sort_values(["overlap", "covered", "first"], ascending=[True, False, True]).head(size)
    return pd.concat([most.assign(side="most shared"), least.assign(side="least shared")], ignore_index=True)


def show_lists(extremes: pd.DataFrame, both: Both, links: pd.DataFrame) -> pd.DataFrame:
    """Concept pairs (`pick_extremes`) with both cultures' strongest responses side by side, for reading.

    `shared`: the links between the two whole lists. A response with a counterpart in the other whole list stands in [brackets]; one
    without is not shared or cannot be linked.
    """
    edges, rows = find_edges(extremes, both, links), extremes.to_dict("records")
    for number, row in enumerate(rows):
        own = edges[edges["pair"] == number]
        for name, side in zip(SIDES, both, strict=True):
            words = side[side["cue"] == row[name]].sort_values("rank").head(LISTED)
            linked = words["form"].isin(own[f"form_{name}"])
            row[f"{name} responses"] = ", ".join(words["response"].mask(linked, "[" + words["response"] + "]"))
        row["shared"] = ", ".join((own["response_first"] + " " + own["response_second"]).head(LISTED))
    names = ["side", "first", "second", "domain", "overlap", "covered", "first responses", "second responses", "shared"]
    return pd.DataFrame(rows, columns=names)


def _average_rounds(partners: pd.DataFrame) -> pd.DataFrame:
    return partners.groupby(["partner", "domain", "first", "family"], sort=False)["overlap"].mean().reset_index()
