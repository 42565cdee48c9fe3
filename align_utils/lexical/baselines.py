"""Answers that need no model: the commonest responses, another cue's, and what the graph of the training norms alone predicts."""

from collections.abc import Sequence
from itertools import product

import numpy as np
import pandas as pd

from align_utils.config.profiles import Config
from align_utils.config.settings import Language, Lexical
from align_utils.lexical.lists import WHOLE, read_lists
from align_utils.lexical.precision import RATED, score_lists
from align_utils.norms.split import CultureNorms

# A word's weight falls by this from one place of a model's list to the next, where the list is added to the graph's shares.
RANK_WEIGHT = 0.95
# The length of the graph's lists: that of a model's.
LENGTH = 10
LISTED = ["model", "culture", "stage", "seed", "cue", "responses"]
# Each point of a grid with its mean P@5, attested, on the validation cues.
GRID = ["model", "culture", "stage", "seed", "backward", "weight", "precision", "chosen"]


def list_frequency_baseline(norms: pd.DataFrame, train: Sequence[str], cues: Sequence[str], *, k: int) -> pd.DataFrame:
    """The same answer to every cue: the k commonest responses over the training cues."""
    counts = norms[norms["cue"].isin(set(train))].groupby("response")["count"].sum()
    common = counts.sort_index().sort_values(ascending=False, kind="stable").index[:k].tolist()
    return pd.DataFrame({"cue": list(cues), "responses": [common] * len(cues)})


def list_chance_baseline(norms: pd.DataFrame, cues: Sequence[str], *, k: int) -> pd.DataFrame:
    """Another held-out cue's strongest human responses: the cue half the sorted list away, since neighbours share characters."""
    ordered = sorted(cues)
    groups = dict(tuple(norms[norms["rank"] <= k].groupby("cue")["response"]))
    other = {cue: ordered[(i + len(ordered) // 2) % len(ordered)] for i, cue in enumerate(ordered)}
    return pd.DataFrame({"cue": list(cues), "responses": [groups[other[cue]].tolist() for cue in cues]})


def score_graph(
    norms: pd.DataFrame, train: Sequence[str], cues: Sequence[str], language: Language, *, backward: float
) -> pd.DataFrame:
    """What counting in the training norms predicts for cues that nobody was asked: `cue, word, share`, sorted by cue and share.

    The score of a word w is the sum, over the training cues t to which people gave the held-out cue as a response, of
    s(t -> cue) * (backward * [w = t] + s(t -> w)), where s is the association strength: t itself, and what else people say to t.
    Shares sum to 1 over a cue's words; a cue that nobody gave as a response has no row.

    >>> from align_utils import config
    >>> norms = pd.DataFrame({"cue": "egg", "response": ["hen", "yolk"], "strength": [0.5, 0.25]})
    >>> score_graph(norms, ["egg"], ["hen"], config.load("smoke").languages["en"], backward=0.5).values.tolist()
    [['hen', 'egg', 0.6666666666666666], ['hen', 'yolk', 0.3333333333333333]]
    """
    part = norms[norms["cue"].isin(set(train))]
    forms = {word: language.normalise(word) for word in {*part["cue"], *part["response"], *cues}}
    edges = part.assign(via=part["cue"].map(forms), word=part["response"].map(forms))
    edges = edges.groupby(["via", "word"], as_index=False)["strength"].sum()
    asked = pd.DataFrame({"cue": list(cues), "form": [forms[cue] for cue in cues]})
    into = asked.merge(edges.rename(columns={"word": "form", "strength": "into"}), on="form")
    onward = into.merge(edges, on="via").assign(score=lambda found: found["into"] * found["strength"])
    back = into.assign(word=into["via"], score=into["into"] * backward)
    scored = pd.concat([onward, back])[["cue", "form", "word", "score"]]
    scored = scored[(scored["word"] != scored["form"]) & (scored["score"] > 0)]
    scored = scored.groupby(["cue", "word"], as_index=False)["score"].sum()
    scored["share"] = scored["score"] / scored.groupby("cue")["score"].transform("sum")
    # Rounded before sorting, so that equal sums added up in another order are a tie, which the words decide.
    order = scored.assign(score=-scored["score"].round(12)).sort_values(["cue", "score", "word"]).index
    return scored.loc[order, ["cue", "word", "share"]].reset_index(drop=True)


def list_graph(shares: pd.DataFrame, cues: Sequence[str]) -> pd.DataFrame:
    """The strongest words of `score_graph` as a list for every cue, empty where it has none: `cue, responses`."""
    words = shares.groupby("cue")["word"].agg(list).to_dict()
    return pd.DataFrame({"cue": list(cues), "responses": [words.get(cue, [])[:LENGTH] for cue in cues]})


def add_graph(lists: pd.DataFrame, shares: pd.DataFrame, language: Language, *, weight: float) -> pd.DataFrame:
    """A model's lists (`cue, responses`) in the order of RANK_WEIGHT ** place + `weight` * the graph's share, its words among them.

    >>> from align_utils import config
    >>> lists = pd.DataFrame({"cue": ["hen"], "responses": [["bird", "egg"]]})
    >>> shares = pd.DataFrame({"cue": ["hen", "hen"], "word": ["egg", "yolk"], "share": [0.6, 0.4]})
    >>> add_graph(lists, shares, config.load("smoke").languages["en"], weight=1.0)["responses"].tolist()
    [['egg', 'bird', 'yolk']]
    """
    known, merged = dict(tuple(shares.groupby("cue"))), []
    for cue, words in zip(lists["cue"], lists["responses"], strict=True):
        said = {language.normalise(word): RANK_WEIGHT**place for place, word in reversed(list(enumerate(words)))}
        if weight and cue in known:
            for word, share in zip(known[cue]["word"], known[cue]["share"], strict=True):
                said[word] = said.get(word, 0.0) + weight * share
        merged.append(sorted(said, key=lambda word, said=said: (-round(said[word], 12), word))[:LENGTH])
    return pd.DataFrame({"cue": list(lists["cue"]), "responses": merged})


def list_baselines(cfg: Config, people: dict[str, CultureNorms]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Answers of every baseline to the test cues, and the graph's grid (`GRID`); `people` are from `norms.load_run`.

    The answers are `model, culture, stage, seed, cue, responses` for every model, with the stages `graph`, `frequency` (the
    commonest responses to the training cues) and `chance` (another cue's responses).
    """
    parts, grids, most = [], [], max(cfg.profile.lexical.ks)
    for culture, own in people.items():
        train, test = own.cues["train"], own.cues["test"]
        graph, grid = choose_graph(cfg.profile.lexical, own, cfg.language_of(culture))
        frequency = list_frequency_baseline(own.norms, train, test, k=most).assign(stage="frequency")
        chance = list_chance_baseline(own.norms, test, k=most).assign(stage="chance")
        for model in cfg.models:
            cell = {"model": model, "culture": culture, "seed": cfg.profile.seed}
            parts.append(pd.concat([graph, frequency, chance]).assign(**cell))
            grids.append(grid.assign(**cell))
    return pd.concat(parts, ignore_index=True)[LISTED], pd.concat(grids, ignore_index=True)[GRID]


def join_graph(cfg: Config, people: dict[str, CultureNorms]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """SFT's whole lists, of every seed, and the graph's as one, the stage `sft_graph`: as `list_baselines` returns.

    MissingInput where a model's whole lists have not been made yet.
    """
    by, parts, grids = ["model", "culture", "seed"], [], []
    made = {
        split: dict(tuple(read_lists(cfg, WHOLE, ending).query("stage == 'sft'").groupby(by, sort=False)))
        for split, ending in (("valid", "_valid"), ("test", ""))
    }
    for key in made["test"]:
        cell = dict(zip(by, key, strict=True))
        lists = {split: frames[key][["cue", "responses"]] for split, frames in made.items()}
        frame, grid = choose_graph(cfg.profile.lexical, people[cell["culture"]], cfg.language_of(cell["culture"]), lists)
        parts.append(frame.assign(**cell))
        grids.append(grid.assign(**cell))
    return pd.concat(parts, ignore_index=True)[LISTED], pd.concat(grids, ignore_index=True)[GRID]


def choose_graph(
    lexical: Lexical, own: CultureNorms, language: Language, lists: dict[str, pd.DataFrame] | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The graph's lists for the test cues, alone or beside a model's (`lists`: `valid` and `test`), as the validation cues choose them.

    The first of the best P@5 (attested) wins; beside it the grid. Both have their `stage`.
    """
    stage = "graph" if lists is None else "sft_graph"
    shares = {
        (split, backward): score_graph(own.norms, own.cues["train"], own.cues[split], language, backward=backward)
        for split in ("valid", "test")
        for backward in lexical.graph.backward
    }

    def answer(split: str, backward: float, weight: float) -> pd.DataFrame:
        found = shares[split, backward]
        return list_graph(found, own.cues[split]) if lists is None else add_graph(lists[split], found, language, weight=weight)

    grid = list(product(lexical.graph.backward, [np.nan] if lists is None else lexical.graph.weight))
    scores = []
    for point in grid:
        scored = score_lists(answer("valid", *point), own.norms, language, ks=[RATED], min_count=lexical.min_count)
        scores.append(scored.loc[scored["reading"] == "attested", "precision"].mean())
    best, table = int(np.argmax(scores)), pd.DataFrame(grid, columns=["backward", "weight"])
    table = table.assign(stage=stage, precision=scores, chosen=table.index == best)
    return answer("test", *grid[best]).assign(stage=stage), table
