"""Controls: norms that are wrong on purpose, so that 'tuning on anything helps' can be told from 'these norms help'."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd

from align_utils.config.profiles import Config
from align_utils.norms.split import CultureNorms, link_concepts
from align_utils.store.steps import hash_settings

# Bumped when a control's norms change for the same data.
CONTROL_VERSION = 1
# A cue with fewer linked responses of the other culture than this makes no list.
FEWEST = 3


class ControlError(ValueError):
    """A control cannot be made from this run's data; the message says what is missing."""


def shuffle_cues(norms: pd.DataFrame, cues: list[str], *, seed: int) -> pd.DataFrame:
    """The rows of `cues` (two at least) under other cues: each cue's own list goes to exactly one other; sorted by cue and rank.

    Examples
    --------
    >>> table = pd.DataFrame({"cue": ["a", "b"], "response": ["x", "y"], "rank": 1})
    >>> shuffle_cues(table, ["a", "b"], seed=0)["response"].tolist()
    ['y', 'x']
    """
    order = np.random.default_rng(seed).permutation(sorted(cues))
    # One turn of a random ring: no cue can meet itself.
    moved = dict(zip(order, np.roll(order, 1), strict=True))
    frame = norms[norms["cue"].isin(moved)]
    return frame.assign(cue=frame["cue"].map(moved)).sort_values(["cue", "rank"], ignore_index=True)


def translate_norms(
    norms: pd.DataFrame, concepts: dict[str, int], cues: dict[int, str], words: dict[int, str], *, fewest: int = FEWEST
) -> pd.DataFrame:
    """Another culture's norms in this culture's words, as far as both cue and response are aligned concepts; n counts those alone.

    `concepts` maps its words (as written) to numbers of concepts; `cues` and `words` map a number to this culture's word: of the concepts
    that may be cues, and of all. Cues with fewer than `fewest` aligned responses are left out.
    """
    frame = norms.assign(at=norms["cue"].map(concepts), to=norms["response"].map(concepts)).dropna(subset=["at", "to"])
    frame = frame[frame["at"].isin(cues.keys()) & (frame["at"] != frame["to"])]
    frame = frame.assign(cue=frame["at"].map(cues), response=frame["to"].map(words))
    frame = frame.groupby(["cue", "response"], as_index=False)["count"].sum()
    frame = frame[frame.groupby("cue")["response"].transform("size") >= fewest]
    frame = frame.sort_values(["cue", "count", "response"], ascending=[True, False, True], ignore_index=True)
    frame["n"] = frame.groupby("cue")["count"].transform("sum")
    frame["strength"], frame["rank"] = frame["count"] / frame["n"], frame.groupby("cue").cumcount() + 1
    return frame


def build_control(
    cfg: Config, people: dict[str, CultureNorms], splits: pd.DataFrame, culture: str, control: str
) -> CultureNorms:
    """What a control of a culture is taught: wrong training norms, the culture's own validation cues (`control`: one of CONTROLS).

    ControlError where the run has no second culture, or too few of its associations can be translated.
    """
    own = people[culture]
    train = CONTROLS[control](cfg, people, splits, culture)
    held = own.norms[own.norms["cue"].isin(set(own.cues["valid"]))]
    norms = pd.concat([train, held], ignore_index=True)
    digest = hash_settings({"rows": norms[["cue", "response", "count"]].values.tolist()})
    cues = own.cues | {"train": sorted(train["cue"].unique())}
    return replace(own, norms=norms, cues=cues, control={"control": [control, CONTROL_VERSION, digest]})


def _shuffle(cfg: Config, people: dict[str, CultureNorms], _: pd.DataFrame, culture: str) -> pd.DataFrame:
    return shuffle_cues(people[culture].norms, people[culture].cues["train"], seed=cfg.profile.seed)


def _translate(cfg: Config, people: dict[str, CultureNorms], splits: pd.DataFrame, culture: str) -> pd.DataFrame:
    others = [name for name in people if cfg.cultures[name].language != cfg.cultures[culture].language]
    if not others:
        raise ControlError(f"control_other_culture: the run has no culture of another language than '{culture}'")
    other, column = others[0], f"cue_{cfg.cultures[culture].language}"
    language = cfg.language_of(other)
    known = link_concepts(splits, people[other].norms, language)
    at = {cue: number for number, cue in enumerate(splits[f"cue_{language.name}"])}
    words = dict(enumerate(splits[column]))
    train = set(people[culture].cues["train"])
    cues = {number: word for number, word in words.items() if word in train}
    translated = translate_norms(people[other].norms, known | at, cues, words)
    if translated["cue"].nunique() < 2 * cfg.profile.sft.batch:
        raise ControlError(
            f"control_other_culture: only {translated['cue'].nunique()} training cues of '{culture}' have {FEWEST} associations of "
            f"'{other}' that the concept pairs can translate; give a longer swow/cue_pairs.csv or leave the control out"
        )
    return translated


CONTROLS: dict[str, Callable] = {"control_shuffled": _shuffle, "control_other_culture": _translate}
