"""What controls are taught: norms that are wrong on purpose, or the right ones cut to a control's size."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pandas as pd

from align_utils.config.profiles import Config
from align_utils.config.stages import SAME_SIZE, find_foreign
from align_utils.norms.split import CultureNorms, load_splits, pair_cultures
from align_utils.store.steps import hash_settings

# Bumped when a control's norms change for the same data.
CONTROL_VERSION = 1
# A cue with fewer linked responses of the other culture than this makes no list.
FEWEST = 3


class ControlError(ValueError):
    """A control cannot be made from this run's data; the message says what is missing."""


def shuffle_cues(norms: pd.DataFrame, cues: list[str], *, seed: int) -> pd.DataFrame:
    """The rows of `cues` (two at least) under other cues: each cue's own list goes to exactly one other; sorted by cue and rank.

    >>> table = pd.DataFrame({"cue": ["a", "b"], "response": ["x", "y"], "rank": 1})
    >>> shuffle_cues(table, ["a", "b"], seed=0)["response"].tolist()
    ['y', 'x']
    """
    order = np.random.default_rng(seed).permutation(sorted(cues))
    # One turn of a random ring: no cue can meet itself.
    moved = dict(zip(order, np.roll(order, 1), strict=True))
    frame = norms[norms["cue"].isin(moved)]
    return frame.assign(cue=frame["cue"].map(moved)).sort_values(["cue", "rank"], ignore_index=True)


def translate_norms(norms: pd.DataFrame, words: dict[str, str], cues: Iterable[str]) -> pd.DataFrame:
    """Another culture's norms in this culture's words, as far as both cue and response are aligned concepts; n counts those alone.

    `words` maps its words (as written) to this culture's; `cues` are those of the latter that may be cues. Cues with fewer than FEWEST
    aligned responses are left out.
    """
    frame = norms.assign(cue=norms["cue"].map(words), response=norms["response"].map(words)).dropna(subset=["cue", "response"])
    frame = frame[frame["cue"].isin(cues) & (frame["cue"] != frame["response"])]
    frame = frame.groupby(["cue", "response"], as_index=False)["count"].sum()
    frame = frame[frame.groupby("cue")["response"].transform("size") >= FEWEST]
    frame = frame.sort_values(["cue", "count", "response"], ascending=[True, False, True], ignore_index=True)
    frame["n"] = frame.groupby("cue")["count"].transform("sum")
    frame["strength"], frame["rank"] = frame["count"] / frame["n"], frame.groupby("cue").cumcount() + 1
    return frame


def cut_norms(norms: pd.DataFrame, sizes: pd.Series) -> pd.DataFrame:
    """The strongest responses of some cues, as many as `sizes` (indexed by cue) says; n counts those alone.

    >>> norms = pd.DataFrame({"cue": "egg", "response": ["hen", "yolk", "oval"], "count": [5, 3, 1], "rank": [1, 2, 3]})
    >>> cut_norms(norms, pd.Series({"egg": 2}))[["response", "n", "strength"]].values.tolist()
    [['hen', 8, 0.625], ['yolk', 8, 0.375]]
    """
    frame = norms[norms["rank"] <= norms["cue"].map(sizes).fillna(0)].sort_values(["cue", "rank"], ignore_index=True)
    frame = frame.assign(n=frame.groupby("cue")["count"].transform("sum"))
    return frame.assign(strength=frame["count"] / frame["n"])


def build_control(cfg: Config, people: dict[str, CultureNorms], culture: str, control: str) -> CultureNorms:
    """What a control of a culture is taught: wrong training norms, the culture's own validation cues (`control_shuffled`,
    `control_other_culture`); or the right ones, cut to the size of the latter (`sft_same_size`).

    ControlError where too few associations of the other culture can be translated.
    """
    own = people[culture]
    if control == "control_shuffled":
        train = shuffle_cues(own.norms, own.cues["train"], seed=cfg.profile.seed)
    else:
        train = _translate(cfg, people, culture)
        if control == SAME_SIZE:
            train = cut_norms(own.norms, train.groupby("cue").size())
    held = own.norms[own.norms["cue"].isin(set(own.cues["valid"]))]
    norms = pd.concat([train, held], ignore_index=True)
    digest = hash_settings({"rows": norms[["cue", "response", "count"]].values.tolist()})
    cues = own.cues | {"train": sorted(train["cue"].unique())}
    return replace(own, norms=norms, cues=cues, control={"control": [control, CONTROL_VERSION, digest]})


def _translate(cfg: Config, people: dict[str, CultureNorms], culture: str) -> pd.DataFrame:
    other = find_foreign(cfg.cultures, culture)
    pairs, normalise = pair_cultures(load_splits(cfg), cfg.cultures, other, culture), cfg.language_of(other).normalise
    norms, words = people[other].norms, dict(zip(pairs["first"].map(normalise), pairs["second"], strict=True))
    words = {word: words.get(normalise(word)) for word in norms["response"].unique()} | dict(
        pairs[["first", "second"]].to_numpy()
    )
    translated = translate_norms(norms, words, people[culture].cues["train"])
    if translated["cue"].nunique() < 2 * cfg.profile.sft.batch:
        raise ControlError(
            f"control_other_culture: only {translated['cue'].nunique()} training cues of '{culture}' have {FEWEST} associations of "
            f"'{other}' that the concept pairs can translate; give a longer swow/cue_pairs.csv or leave the control out"
        )
    return translated
