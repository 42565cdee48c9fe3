"""What a held-out cue shares with the training data all the same: measured for the split in use, not assumed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec

import pandas as pd

from align_utils import pairs, stats
from align_utils.config import Config, Language

COLUMNS = ["leak", "count", "of", "share", "low", "high"]


def measure_leakage(norms: pd.DataFrame, cues: dict[str, Sequence[str]], language: Language, *, k: int = 5) -> pd.DataFrame:
    """Three ways in which the test cues of one culture stand in its training data.

    Parameters
    ----------
    norms : DataFrame
        `cue, response, rank`.
    cues : dict
        From `pairs.split_cues`.
    k : int
        A held-out cue's strongest pairs that are looked up the other way round.

    Returns
    -------
    DataFrame
        COLUMNS: test cues that are responses to training cues; their top-k pairs (cue, response) of which (response, cue) is a
        training pair; test cues of which an inflected or differently written form is a training cue (other script: where the
        package OpenCC is installed, else the row says that it was not checked). Wilson intervals.
    """
    forms = pd.DataFrame({
        "cue": norms["cue"], "rank": norms["rank"], "a": norms["cue"].map(language.normalise),
        "b": norms["response"].map({word: language.normalise(word) for word in norms["response"].unique()}),
    })  # fmt: skip
    training = forms[forms["cue"].isin(set(cues["train"]))]
    said, known = set(training["b"]), set(zip(training["a"], training["b"], strict=True))
    tested = {language.normalise(cue) for cue in cues["test"]}
    top = forms[forms["cue"].isin(set(cues["test"])) & (forms["rank"] <= k)]
    plain, checked = _pick_script(language)
    lemmas = {pairs.lemmatise(plain(cue), language) for cue in cues["train"]}
    found = {
        "test cues that are training responses": (len(tested & said), len(tested)),
        f"top-{k} test pairs reversed in training": (
            sum((b, a) in known for a, b in zip(top["a"], top["b"], strict=True)), len(top),
        ),
        f"test cues with a variant that trains ({checked})": (
            sum(pairs.lemmatise(plain(cue), language) in lemmas for cue in cues["test"]), len(cues["test"]),
        ),
    }  # fmt: skip
    return _tabulate(found)


def measure_crossing(cfg: Config, stage: dict[str, dict], splits: pd.DataFrame) -> pd.DataFrame:
    """Test concepts whose cue in some language trains in any culture of that language: must be none."""
    tested = splits[splits["split"] == "test"]
    trained = {name: set() for name in cfg.languages}
    for culture, data in stage.items():
        trained[cfg.cultures[culture].language] |= set(data["cues"]["train"])
    crossing = pd.Series(False, index=tested.index)
    for name, known in trained.items():
        crossing |= tested[f"cue_{name}"].isin(known)
    return _tabulate({"test concepts that train in some language": (int(crossing.sum()), len(tested))})


def report_leakage(cfg: Config, stage: dict[str, dict], splits: pd.DataFrame) -> pd.DataFrame:
    """`culture` and COLUMNS: `measure_leakage` of every culture, `measure_crossing` over all of them."""
    parts = [
        measure_leakage(data["norms"], data["cues"], cfg.language_of(name)).assign(culture=name) for name, data in stage.items()
    ]
    parts.append(measure_crossing(cfg, stage, splits).assign(culture="all"))
    return pd.concat(parts, ignore_index=True)[["culture", *COLUMNS]]


def _pick_script(language: Language) -> tuple[Callable[[str], str], str]:
    if language.other_script is None:
        return str, "case, inflection"
    if find_spec("opencc") is None:
        return str, "case, inflection; script not checked: OpenCC is not installed"
    import opencc

    return opencc.OpenCC(language.other_script.convert).convert, "case, inflection, script"


def _tabulate(found: dict[str, tuple[int, int]]) -> pd.DataFrame:
    rows = [[leak, count, of, count / of, *stats.wilson_interval(count, of)] for leak, (count, of) in found.items()]
    return pd.DataFrame(rows, columns=COLUMNS)
