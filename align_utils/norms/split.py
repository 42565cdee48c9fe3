"""Concept pairs and the split that every stage keeps, alike in all languages; how words are compared; what leaks through it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.util import find_spec
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pandera.pandas as pa
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from align_utils.config.profiles import Config
from align_utils.config.settings import Culture, Language
from align_utils.norms.strengths import ReadNorms, normalise_words
from align_utils.stats import wilson_interval
from align_utils.store.steps import read_frame, save_frame
from align_utils.store.textfiles import DataError, find_optional, read_table, refuse

SPLITS = ("train", "valid", "test")
# What travels from notebook 01 to the later ones.
TEXT, POSITIVE = pa.Column(str), pa.Column(int, pa.Check.gt(0))
NORMS = pa.DataFrameSchema({
    "cue": TEXT, "response": TEXT, "count": POSITIVE, "n": POSITIVE, "strength": pa.Column(float, pa.Check.in_range(0, 1, include_min=False)),
    "rank": POSITIVE,
})  # fmt: skip
TRIALS = pa.DataFrameSchema({"participant": TEXT, "cue": TEXT, "R1": TEXT, "R2": TEXT, "R3": TEXT})
SPLIT_PAIRS = pa.DataFrameSchema({"family": pa.Column(int), "split": pa.Column(str, pa.Check.isin(SPLITS))})


def load_pairs(cfg: Config) -> pd.DataFrame:
    """Concept pairs: `ALIGN_DATA/swow/cue_pairs.csv` if there, else our `data/pairs.csv`: `cue_<language>` of the run's languages and `domain`.

    DataError where a language's column is missing or a cue stands in two pairs.
    """
    path = find_optional(cfg.data_dir / "swow", "cue_pairs.csv") or cfg.root / "data" / "pairs.csv"
    columns = [f"cue_{language}" for language in cfg.languages]
    frame = read_table(path, [*columns, "domain"])
    for column in columns:
        refuse(path, frame, frame[column] == "", f"column '{column}': expected a cue, found nothing; fill or remove the row")
        refuse(path, frame, frame.duplicated(column), f"'{{{column}}}' stands in two pairs; keep one")
    return frame.reset_index(drop=True)


def split_pairs(
    pairs: pd.DataFrame, norms: Iterable[tuple[str, pd.DataFrame]], languages: dict[str, Language], *, valid: int, test: int,
    seed: int,
) -> pd.DataFrame:  # fmt: skip
    """Split concept pairs into train, valid and test, whole families together and alike for all languages.

    A family is a set of pairs joined by a shared lemma in any language (`dog`, `dogs`), so that no inflected variant of a
    held-out cue is trained on. Only pairs whose cue every culture's norms hold can be held out.

    `pairs` has `cue_<language>` columns and `domain`; `norms` are each culture's language and norms; `valid` and `test` are numbers of
    pairs, reached with at most one family more. Returns the pairs present in all norms with
    `family` (int) and `split`; DataError where fewer than half of them would be left for training.
    """
    known = [pairs[f"cue_{language}"].isin(frame["cue"]) for language, frame in norms]
    shared = pairs[np.all(known, axis=0)].reset_index(drop=True)
    if len(shared) < 2 * (valid + test):
        raise DataError(
            f"only {len(shared)} of {len(pairs)} concept pairs have their cues in all norms: too few to hold out {valid} + {test}; "
            "lower norms.valid_pairs and norms.test_pairs in the profile, or give a longer swow/cue_pairs.csv"
        )
    # A graph of pairs and lemmas: what hangs together is a family.
    lemmas = [(name, lemmatise(cue, languages[name])) for name in languages for cue in shared[f"cue_{name}"]]
    codes, names = pd.factorize(pd.Series(lemmas))
    rows, size = np.tile(np.arange(len(shared)), len(languages)), len(shared) + len(names)
    graph = coo_array((np.ones(len(rows)), (rows, codes + len(shared))), shape=(size, size))
    shared["family"] = connected_components(graph, directed=False)[1][: len(shared)]
    sizes = shared.groupby("family").size()
    sizes = sizes.loc[np.random.default_rng(seed).permutation(sizes.index.to_numpy())]
    before = sizes.cumsum() - sizes
    split = np.select([before < test, before < test + valid], ["test", "valid"], "train")
    return shared.assign(split=shared["family"].map(dict(zip(sizes.index, split, strict=True))))


@dataclass(frozen=True)
class CultureNorms:
    """What notebook 01 left of one culture.

    `norms`: `cue, response, count, n, strength, rank`; `cues` by split (`train, valid, test, excluded`); `path` of the norms' file;
    `trials`: `participant, cue, R1, R2, R3`, or None where the culture has none; `control`: of norms that are wrong on purpose, what an
    adapter's key needs to know of them.
    """

    norms: pd.DataFrame
    cues: dict[str, list[str]]
    path: Path
    trials: pd.DataFrame | None = None
    control: dict = field(default_factory=dict)


def split_run(cfg: Config, loaded: dict[str, ReadNorms]) -> pd.DataFrame:
    """Store what the later notebooks read (`load_run`) in `norms`: `<culture>.parquet`, `<culture>_trials.parquet` and the split.

    The split of the concept pairs (`split_pairs`) is returned.
    """
    folder, settings = cfg.runs / "norms", cfg.profile.norms
    for name, part in loaded.items():
        trials = pd.DataFrame(columns=list(TRIALS.columns)) if part.trials is None else TRIALS.validate(part.trials)
        save_frame(trials, folder / f"{name}_trials.parquet")
        save_frame(NORMS.validate(part.norms), folder / f"{name}.parquet")
    norms = [(cfg.cultures[name].language, part.norms) for name, part in loaded.items()]
    sizes = {"valid": settings.valid_pairs, "test": settings.test_pairs, "seed": cfg.profile.seed}
    splits = split_pairs(load_pairs(cfg), norms, cfg.languages, **sizes)
    save_frame(splits, folder / "splits.csv")
    return splits


def load_run(cfg: Config) -> dict[str, CultureNorms]:
    """What notebook 01 left for the later ones, by culture: trials hold the responses that the norms count, the splits are proved disjoint.

    MissingInput where 01 has not run.
    """
    splits, people = load_splits(cfg), {}
    for name in cfg.cultures:
        path = cfg.runs / "norms" / f"{name}.parquet"
        frame = NORMS.validate(read_frame(path, made_by="01_norms"))
        # Without a participant, an empty column has no kind of its own.
        trials = TRIALS.validate(read_frame(path.with_name(f"{name}_trials.parquet"), made_by="01_norms").astype(str))
        if cfg.profile.norms.responses == "R1":
            trials = trials.assign(R2="", R3="")  # what stands beside the norms counts the responses that they count
        cues = split_cues(frame, splits, cfg.language_of(name))
        people[name] = CultureNorms(frame, cues, path, trials if len(trials) else None)
    return people


def load_splits(cfg: Config) -> pd.DataFrame:
    """The concept pairs as notebook 01 split them (`split_pairs`)."""
    return SPLIT_PAIRS.validate(read_frame(cfg.runs / "norms" / "splits.csv", made_by="01_norms"))


def split_cues(norms: pd.DataFrame, splits: pd.DataFrame, language: Language) -> dict[str, list[str]]:
    """Sorted cues of one culture by split: `train, valid, test, excluded`, proved disjoint (DataError).

    Unpaired cues train, except variants of a held-out cue, which are left out.
    """
    held = splits[splits["split"] != "train"].set_index(f"cue_{language.name}")["split"].to_dict()
    lemmas = {lemmatise(cue, language) for cue in held}
    parts: dict[str, list[str]] = {name: [] for name in (*SPLITS, "excluded")}
    for cue in sorted(norms["cue"].unique()):
        parts[held.get(cue) or ("excluded" if lemmatise(cue, language) in lemmas else "train")].append(cue)
    prove_disjoint(parts, language)
    return parts


def prove_disjoint(parts: dict[str, Sequence[str]], language: Language) -> None:
    """Raise DataError if a cue, or an inflected or differently written form of it, stands in two of train, valid and test."""
    forms = {name: {lemmatise(cue, language): cue for cue in parts[name]} for name in SPLITS}
    for first, second in combinations(SPLITS, 2):
        common = sorted(forms[first].keys() & forms[second].keys())
        if common:
            a, b = forms[first][common[0]], forms[second][common[0]]
            raise DataError(f"cue in two splits: '{a}' ({first}) and '{b}' ({second}), {len(common)} in all; split by family")


def lemmatise(word: str, language: Language) -> str:
    """Lemma of a normalised word in the language's lemmatiser; the normalised word where there is none."""
    plain = language.normalise(word)
    return plain if language.lemmatiser is None else _look_up_lemma(plain, language.lemmatiser)


def pair_cultures(splits: pd.DataFrame, cultures: Mapping[str, Culture], first: str, second: str) -> pd.DataFrame:
    """The split's pairs as `first`, `second` (cues of two cultures), `domain` and `family`."""
    cues = {side: splits[f"cue_{cultures[name].language}"] for side, name in (("first", first), ("second", second))}
    return splits[["domain", "family"]].assign(**cues)[["first", "second", "domain", "family"]]


def describe_splits(people: dict[str, CultureNorms], splits: pd.DataFrame) -> pd.DataFrame:
    """One row a split: families, pairs, and cues per culture."""
    table = splits.groupby("split").agg(families=("family", "nunique"), pairs=("family", "size")).reindex(SPLITS).reset_index()
    return table.assign(**{f"cues {culture}": [len(own.cues[name]) for name in SPLITS] for culture, own in people.items()})


def map_families(cfg: Config) -> dict[tuple[str, str], int]:
    """(Culture, cue) to family, the unit that intervals are drawn over."""
    splits = load_splits(cfg)
    return {
        (name, cue): family
        for name, culture in cfg.cultures.items()
        for cue, family in zip(splits[f"cue_{culture.language}"], splits["family"], strict=True)
    }


@lru_cache(maxsize=100_000)  # the split asks for the lemma of every cue three times
def _look_up_lemma(word: str, lemmatiser: str) -> str:
    import simplemma

    return simplemma.lemmatize(word, lang=lemmatiser).casefold()


MATCHINGS = ("exact", "lemma")


def fold_words(words: Iterable[str], language: Language, matching: str) -> dict[str, str]:
    """The form under which each word is compared; each distinct word is folded once.

    `exact`: the language's normal form (NFKC, case, outer punctuation, spaces). `lemma`: hyphens are spaces, the language's `leading` words
    and `endings` are dropped (an ending only behind two characters), and every word of the response is replaced by its lemma.

    >>> from align_utils import config
    >>> en = config.load("smoke").languages["en"]
    >>> fold_words(["Ice-Creams", "to run"], en, "lemma")
    {'Ice-Creams': 'ice cream', 'to run': 'run'}
    """
    fold = {"exact": language.normalise, "lemma": lambda word: _fold_lemma(word, language)}[matching]
    return {word: fold(word) for word in dict.fromkeys(words)}


def _fold_lemma(word: str, language: Language) -> str:
    parts = language.normalise(word).replace("-", " ").split()
    while len(parts) > 1 and parts[0] in language.leading:
        parts = parts[1:]
    if parts:
        # At least two characters must stay: 目的 (aim) and 女儿 (daughter) do not end in a particle.
        ending = next((end for end in language.endings if parts[-1].endswith(end) and len(parts[-1]) > len(end) + 1), "")
        parts[-1] = parts[-1].removesuffix(ending)
    return ("" if language.remove_spaces else " ").join(lemmatise(part, language) for part in parts)


def count_leaks(norms: pd.DataFrame, cues: dict[str, Sequence[str]], language: Language) -> dict[str, tuple[int, int]]:
    """Three ways in which the test cues of one culture stand in its training data: each with how many do, out of how many.

    Test cues that are responses to training cues; their five strongest pairs (cue, response) of which (response, cue) is a training pair;
    test cues of which an inflected or differently written form is a training cue (other script: where the package OpenCC is installed,
    else the name says that it was not checked).
    """
    forms = norms.assign(**{name: normalise_words(norms[name], language) for name in ("cue", "response")})
    training, testing = forms[norms["cue"].isin(cues["train"])], forms[norms["cue"].isin(cues["test"]) & (norms["rank"] <= 5)]
    tested = {language.normalise(cue) for cue in cues["test"]}
    pairs, reverse = (pd.MultiIndex.from_frame(part) for part in (training[["cue", "response"]], testing[["response", "cue"]]))
    plain, checked = _pick_script(language)
    lemmas = {lemmatise(plain(cue), language) for cue in cues["train"]}
    varied = [cue for cue in cues["test"] if lemmatise(plain(cue), language) in lemmas]
    return {
        "test cues that are training responses": (len(tested & set(training["response"])), len(tested)),
        "top-5 test pairs reversed in training": (int(reverse.isin(pairs).sum()), len(testing)),
        f"test cues with a variant that trains ({checked})": (len(varied), len(cues["test"])),
    }


def report_leakage(cfg: Config, people: dict[str, CultureNorms], splits: pd.DataFrame) -> pd.DataFrame:
    """What leaks through the split: `culture, leak, count, of, share` with the Wilson interval `low, high`.

    `count_leaks` of every culture and, of `all`, test concepts whose cue in some language trains in any culture of that language: must be none.
    """
    tested = splits[splits["split"] == "test"]
    trains = [tested[f"cue_{cfg.cultures[name].language}"].isin(own.cues["train"]) for name, own in people.items()]
    found = {name: count_leaks(own.norms, own.cues, cfg.language_of(name)) for name, own in people.items()}
    found["all"] = {"test concepts that train in some language": (int(np.any(trains, axis=0).sum()), len(tested))}
    rows = [
        [culture, leak, count, of, count / of, *wilson_interval(count, of, level=cfg.profile.stats.level)]
        for culture, leaks in found.items()
        for leak, (count, of) in leaks.items()
    ]
    return pd.DataFrame(rows, columns=["culture", "leak", "count", "of", "share", "low", "high"])


def _pick_script(language: Language) -> tuple[Callable[[str], str], str]:
    if language.other_script is None:
        return str, "case, inflection"
    if find_spec("opencc") is None:
        return str, "case, inflection; script not checked: OpenCC is not installed"
    import opencc

    return opencc.OpenCC(language.other_script.convert).convert, "case, inflection, script"
