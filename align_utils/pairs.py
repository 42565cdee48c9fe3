"""Concept pairs and the split that every stage keeps: held out by family, alike in all languages."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from align_utils.artifacts import read_frame
from align_utils.config import Config, Language
from align_utils.tables import DataError, read_table

SPLITS = ("train", "valid", "test")


def load_pairs(cfg: Config) -> tuple[pd.DataFrame, Path]:
    """Concept pairs: `ALIGN_DATA/swow/cue_pairs.csv` if there, else our `data/pairs.csv`.

    Returns
    -------
    (DataFrame, Path)
        `cue_<language>` for every language of the run and `domain`; the file read.

    Raises
    ------
    DataError
        A language's column is missing, or a cue stands in two pairs.
    """
    own = cfg.data_dir / "swow" / "cue_pairs.csv"
    path = own if own.is_file() else cfg.root / "data" / "pairs.csv"
    columns = [f"cue_{language}" for language in cfg.languages]
    frame = read_table(path, [*columns, "domain"])
    for column in columns:
        twice = frame.index[frame.duplicated(column)]
        if len(twice):
            raise DataError(f"{path}, line {twice[0]}: '{frame.loc[twice[0], column]}' stands in two pairs; keep one")
    return frame.reset_index(drop=True), path


def split_pairs(
    pairs: pd.DataFrame, norms: dict[str, pd.DataFrame], languages: dict[str, Language], *, valid: int, test: int, seed: int
) -> pd.DataFrame:
    """Split concept pairs into train, valid and test, whole families together and alike for all languages.

    A family is a set of pairs joined by a shared lemma in any language (`dog`, `dogs`), so that no inflected variant of a
    held-out cue is trained on. Only pairs whose cue every language's norms hold can be held out.

    Parameters
    ----------
    pairs : DataFrame
        `cue_<language>` columns and `domain`.
    norms : dict of language name to DataFrame
        Norms per language (several cultures of a language: their common cues).
    valid, test : int
        Numbers of pairs to hold out, reached with at most one family more.
    seed : int

    Returns
    -------
    DataFrame
        The pairs present in all norms with `family` (int) and `split`.

    Raises
    ------
    DataError
        Fewer than half of the pairs would be left for training.
    """
    known = pd.Series(True, index=pairs.index)
    for name, frame in norms.items():
        known &= pairs[f"cue_{name}"].isin(set(frame["cue"].unique()))
    shared = pairs[known].reset_index(drop=True)
    if len(shared) < 2 * (valid + test):
        raise DataError(
            f"only {len(shared)} of {len(pairs)} concept pairs have their cues in all norms: too few to hold out {valid} + {test}; "
            "lower norms.valid_pairs and norms.test_pairs in the profile, or give a longer swow/cue_pairs.csv"
        )
    shared["family"] = _find_families(shared, languages)
    families = shared.groupby("family").size()
    order = np.random.default_rng(seed).permutation(families.index.to_numpy())
    reached = families.loc[order].cumsum().to_numpy()
    before = reached - families.loc[order].to_numpy()
    split = np.select([before < test, before < test + valid], ["test", "valid"], "train")
    shared["split"] = shared["family"].map(dict(zip(order, split, strict=True)))
    return shared


def load_stage(cfg: Config) -> dict[str, dict]:
    """What notebook 01 left for the later stages: per culture `norms`, `cues` (by split, proved disjoint) and `path`.

    Raises
    ------
    MissingInput
        Notebook 01 has not run.
    """
    splits = read_frame(cfg.runs / "norms" / "splits.csv", made_by="01_norms")
    stage = {}
    for name in cfg.cultures:
        path = cfg.runs / "norms" / f"{name}.parquet"
        frame = read_frame(path, made_by="01_norms")
        stage[name] = {"norms": frame, "cues": split_cues(frame, splits, cfg.language_of(name)), "path": path}
    return stage


def split_cues(norms: pd.DataFrame, splits: pd.DataFrame, language: Language) -> dict[str, list[str]]:
    """Cues of one culture by split; unpaired cues train, except variants of a held-out cue, which are left out.

    Returns
    -------
    dict
        `train`, `valid`, `test` and `excluded`, each a sorted list of cues.

    Raises
    ------
    DataError
        A cue, or a variant of it, would stand in two splits.
    """
    column = f"cue_{language.name}"
    held = splits[splits["split"] != "train"].set_index(column)["split"].to_dict()
    lemmas = {lemmatise(cue, language) for cue in held}
    present = sorted(set(norms["cue"].unique()))
    parts = {name: [cue for cue in present if held.get(cue) == name] for name in ("valid", "test")}
    rest = [cue for cue in present if cue not in held]
    parts["train"] = [cue for cue in rest if lemmatise(cue, language) not in lemmas]
    parts["excluded"] = [cue for cue in rest if lemmatise(cue, language) in lemmas]
    prove_disjoint(parts, language)
    return parts


def prove_disjoint(parts: dict[str, Sequence[str]], language: Language) -> None:
    """Raise DataError if a cue, or an inflected or differently written form of it, stands in two of train, valid and test."""
    forms = {name: {lemmatise(cue, language): cue for cue in parts[name]} for name in SPLITS}
    for first, second in (("train", "valid"), ("train", "test"), ("valid", "test")):
        common = sorted(forms[first].keys() & forms[second].keys())
        if common:
            a, b = forms[first][common[0]], forms[second][common[0]]
            raise DataError(f"cue in two splits: '{a}' ({first}) and '{b}' ({second}), {len(common)} in all; split by family")


def lemmatise(word: str, language: Language) -> str:
    """Lemma of a normalised word in the language's lemmatiser; the normalised word where there is none."""
    plain = language.normalise(word)
    return plain if language.lemmatiser is None else _look_up_lemma(plain, language.lemmatiser)


def pair_cultures(splits: pd.DataFrame, cfg: Config, first: str, second: str) -> pd.DataFrame:
    """The split's pairs as `first`, `second` (cues of two cultures), `domain` and `family`."""
    columns = [f"cue_{cfg.cultures[name].language}" for name in (first, second)]
    return pd.DataFrame(
        {"first": splits[columns[0]], "second": splits[columns[1]], "domain": splits["domain"], "family": splits["family"]}
    )


def link_concepts(pairs: pd.DataFrame, norms: pd.DataFrame, language: Language) -> dict[str, int]:
    """Responses that are themselves cues of the concept pairs: response as written to number of the pair."""
    numbers = {language.normalise(cue): number for number, cue in enumerate(pairs[f"cue_{language.name}"])}
    forms = {word: language.normalise(word) for word in norms["response"].unique()}
    return {word: numbers[form] for word, form in forms.items() if form in numbers}


def describe_splits(stage: dict[str, dict], splits: pd.DataFrame) -> pd.DataFrame:
    """One row a split: families, pairs, and cues per culture."""
    rows = []
    for name in SPLITS:
        part = splits[splits["split"] == name]
        cues = {f"cues {culture}": len(data["cues"][name]) for culture, data in stage.items()}
        rows.append({"split": name, "families": part["family"].nunique(), "pairs": len(part), **cues})
    return pd.DataFrame(rows)


def map_families(cfg: Config) -> dict[tuple[str, str], int]:
    """(Culture, cue) to family, the unit that intervals are drawn over."""
    splits = read_frame(cfg.runs / "norms" / "splits.csv", made_by="01_norms")
    return {
        (name, cue): family
        for name, culture in cfg.cultures.items()
        for cue, family in zip(splits[f"cue_{culture.language}"], splits["family"], strict=True)
    }


@lru_cache(maxsize=100_000)  # the split asks for the lemma of every cue three times
def _look_up_lemma(word: str, lemmatiser: str) -> str:
    import simplemma

    return simplemma.lemmatize(word, lang=lemmatiser).casefold()


def _find_families(pairs: pd.DataFrame, languages: dict[str, Language]) -> np.ndarray:
    keys = [pairs[f"cue_{name}"].map(lambda cue, name=name: (name, lemmatise(cue, languages[name]))) for name in languages]
    codes, _ = pd.factorize(pd.concat(keys, ignore_index=True))
    rows = np.tile(np.arange(len(pairs)), len(languages))
    size = len(pairs) + codes.max() + 1
    graph = coo_array((np.ones(len(rows)), (rows, codes + len(pairs))), shape=(size, size))
    return connected_components(graph, directed=False)[1][: len(pairs)]
