"""Links between the words of two languages, and how much of two distributions or sets can be matched along them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import maximum_bipartite_matching, maximum_flow

from align_utils.config.profiles import Config
from align_utils.config.settings import Language
from align_utils.store.textfiles import DataError, read_table

# Normalised word of the first language to the words of the second that may stand for it; many-to-many.
Links = dict[str, frozenset[str]]


def load_translations(cfg: Config, first: str, second: str) -> tuple[pd.DataFrame | None, Path | None]:
    """The reader's own `ALIGN_DATA/swow/translations.csv`, if there is one: its columns `first, second` as written, and the file.

    A column is named as a language of the run; one translation a row, a word in as many rows as it takes. DataError for an empty cell.
    """
    path = cfg.data_dir / "swow" / "translations.csv"
    if first == second or not path.is_file():
        return None, None
    frame = read_table(path, [first, second])
    for name in (first, second):
        empty = frame.index[frame[name].map(cfg.languages[name].normalise) == ""]
        if len(empty):
            raise DataError(
                f"{path}, line {empty[0]}, column '{name}': expected a word, found {frame.loc[empty[0], name]!r}; "
                f"{len(empty)} such row{'s' if len(empty) > 1 else ''}: fill or remove them, one translation a row"
            )
    return frame.reset_index(drop=True), path


def link_words(
    pairs: pd.DataFrame,
    norms: tuple[pd.DataFrame, pd.DataFrame],
    languages: tuple[Language, Language],
    translations: pd.DataFrame | None = None,
) -> Links:
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


def match_mass(p: dict[str, int], q: dict[str, int], links: Links) -> float:
    """Largest share of two distributions (word to count) that can be matched along links, in [0, 1] (`describe.compare_overlap`).

    ValueError for words with several counterparts and more than 2 ** 31 as the product of the two sums of counts.

    Examples
    --------
    >>> match_mass({"big": 1, "large": 1}, {"大": 3, "树": 1}, {"big": frozenset("大"), "large": frozenset("大")})
    0.75
    """
    rows, columns = find_edges(p, q, links)
    all_p, all_q = sum(p.values()), sum(q.values())
    # Over the common denominator the shares are whole numbers, so that the flow is exact.
    gives = np.fromiter(p.values(), np.int64) * all_q
    takes = np.fromiter(q.values(), np.int64) * all_p
    if _is_one_to_one(rows, columns):
        return float(np.minimum(gives[rows], takes[columns]).sum() / (all_p * all_q))
    if all_p * all_q > np.iinfo(np.int32).max:
        raise ValueError(f"match_mass: {all_p} times {all_q} tokens are too many for an exact flow in 32 bits (scipy's limit)")
    source, sink = len(p) + len(q), len(p) + len(q) + 1
    tails = np.concatenate([np.full(len(p), source), rows, len(p) + np.arange(len(q))])
    heads = np.concatenate([np.arange(len(p)), len(p) + np.array(columns), np.full(len(q), sink)])
    room = np.concatenate([gives, gives[rows], takes]).astype(np.int32)  # of 64 bits scipy's flow makes 0
    graph = coo_array((room, (tails, heads)), shape=(sink + 1, sink + 1)).tocsr()
    return float(maximum_flow(graph, source, sink).flow_value / (all_p * all_q))


def match_sets(a: Sequence[str], b: Sequence[str], links: Links) -> float:
    """Jaccard index across languages: the most words that can be paired off along links, over the size of the union.

    Examples
    --------
    >>> match_sets(["big", "large"], ["大", "树"], {"big": frozenset("大"), "large": frozenset("大")})
    0.3333333333333333
    """
    rows, columns = find_edges(a, b, links)
    common = len(rows)
    if not _is_one_to_one(rows, columns):
        graph = coo_array((np.ones(len(rows)), (rows, columns)), shape=(len(a), len(b))).tocsr()
        common = int((maximum_bipartite_matching(graph, perm_type="column") >= 0).sum())
    return common / (len(a) + len(b) - common)


def find_edges(a: Sequence[str], b: Sequence[str], links: Links) -> tuple[list[int], list[int]]:
    """Places in a and b of every linked couple, in the order of a."""
    places = {word: place for place, word in enumerate(b)}
    found = [(i, places[other]) for i, word in enumerate(a) for other in sorted(links.get(word, ())) if other in places]
    return [i for i, _ in found], [j for _, j in found]


def _is_one_to_one(rows: list[int], columns: list[int]) -> bool:
    """No word has two counterparts here: nearly always so, and a hundred times faster than the general solution."""
    return len(set(rows)) == len(rows) and len(set(columns)) == len(columns)
