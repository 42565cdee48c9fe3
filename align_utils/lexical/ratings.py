"""Concreteness, valence, arousal and dominance of associations: sources, matching, means, equivalence."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from scipy import stats

from align_utils.config.profiles import Config
from align_utils.config.settings import Language, Rating, RatingRules, RatingSource
from align_utils.norms.split import CultureNorms, fold_words
from align_utils.stats import compare, summarise
from align_utils.store.ledger import note_read
from align_utils.store.page import list_records
from align_utils.store.textfiles import DataError, find_file, parse_numbers, read_table

EXTRA = "pip install -c constraints.txt -e '.[ratings]'"
# Fewer anchors than this at either end show nothing.
FEWEST_WORDS = 3
# Shares of (high, low) anchor pairs in the right order: all published files give 1; a reversed one 0; a column of standard
# deviations about a half.
ORDERED = 0.8
# Share of words with a character of the other script from which a file counts as written in it; the simplified files give 0.
FOREIGN_WORDS = 0.02
# Published ratings fill 77 % of their scale or more; under this share of it, by so many words, the scale is another one.
NARROW, ENOUGH = 0.55, 100
RATING_COLUMNS = ["language", "rating", "file", "words", "scale", "lowest", "highest", "anchors", "note"]


def load_ratings(cfg: Config, language: Language) -> tuple[dict[str, pd.Series], pd.DataFrame, dict[str, str]]:
    """All ratings of a language that the run's data folder holds.

    Returns
    -------
    (dict, DataFrame, dict)
        Series per rating found (see `load_rating`); one row a rating with what was read and checked (`COLUMNS`, and `path`);
        for each rating not found, what was looked for ('not measured').
    """
    found, rows, absent = {}, [], {}
    for name, rating in language.ratings.items():
        given = ((find_file(cfg.data_dir / "ratings", source.files), source) for source in rating.sources)
        path, source = next((pair for pair in given if pair[0]), (None, None))
        if path is None:
            absent[name] = "not measured: none of " + ", ".join(f for source in rating.sources for f in source.files)
            continue
        found[name], report = load_rating(path, source, rating, language, name=name)
        rows.append({"language": language.name, "rating": name, "file": path.name, **report, "path": path})
    return found, pd.DataFrame(rows, columns=[*RATING_COLUMNS, "path"]), absent


def load_rating(
    path: Path, source: RatingSource, rating: Rating, language: Language, *, name: str
) -> tuple[pd.Series, dict[str, object]]:
    """Read one rating and check that its scale and script are what the language's YAML says.

    Parameters
    ----------
    path : Path
        `.xlsx` (package openpyxl), `.yaml` with `Dictionary: {word: {value: number}}` (cntext), else TAB or comma, `.gz` too.
    source : RatingSource
        Column names, sheet, scale ends; a reversed scale (Xu & Li 2020: 1 very concrete) is turned as low + high - x; a form
        with other scale ends than the rating's (Xu et al. 2022: valence -3 to 3) is put on the rating's scale linearly.
    rating, language : Rating, Language
        Words are indexed by their normalised form; words that normalise alike are averaged.
    name : str
        Of the rating, for the messages.

    Returns
    -------
    (Series, dict)
        Rating in [rating.low, rating.high], indexed by normalised word; the report: `words, scale, lowest, highest, anchors,
        note`.

    Raises
    ------
    DataError
        See `read_table`; a value lies outside the scale, or all lie in a part of it; the anchors are in the wrong order or in
        none; the file is in another script or a workbook and the package that reads it is not installed.

    Source
    ------
    FORMATS: Brysbaert et al. 2014, Warriner et al. 2013, Xu & Li 2020, Xu et al. 2022, Lee et al. 2022 (Chinese EmoBank).
    """
    frame = _read(path, source)
    frame = frame[~frame[source.value].str.upper().isin(["", "NA", "#N/A"])]
    if frame.empty:
        raise DataError(f"{path}: column '{source.value}' holds no value")
    low, high = (rating.low if source.low is None else source.low), (rating.high if source.high is None else source.high)
    values = parse_numbers(frame, source.value, path, low=low, high=high)
    lowest, highest, notes = values.min(), values.max(), []
    if len(values) >= ENOUGH and highest - lowest < NARROW * (high - low):
        raise DataError(
            f"{path}, column '{source.value}': expected ratings from {low:g} to {high:g}, found all {len(values)} between "
            f"{lowest:g} and {highest:g}; set low and high of this source ({_field(name, language)}) to the file's own scale"
        )
    if source.reversed:
        values = low + high - values
        notes.append(f"turned: {low + high:g} - x")
    if (low, high) != (rating.low, rating.high):
        values = rating.low + (values - low) * (rating.high - rating.low) / (high - low)
        notes.append(f"put from {low:g} to {high:g} on the scale linearly")
    words, note = _convert_script(frame[source.word], path, language)
    values = values.groupby(words.map(language.normalise)).mean().drop("", errors="ignore")
    if len(values) < len(words):
        notes.append(f"{len(words) - len(values)} rows averaged with a row of the same word")
    report = {"words": len(values), "scale": f"{rating.low:g} to {rating.high:g}", "lowest": lowest, "highest": highest}
    anchors = check_anchors(values, path, source, rating, language, name=name)
    return values, {**report, "anchors": anchors, "note": "; ".join([*note, *notes])}


def check_anchors(values: pd.Series, path: Path, source: RatingSource, rating: Rating, language: Language, *, name: str) -> str:
    """Say that the anchor words lie the right way round, or that too few are in the file to tell.

    Raises
    ------
    DataError
        They lie the wrong way round (the scale is reversed) or in no order (another column).
    """
    ends = [
        values.reindex([language.normalise(word) for word in words]).dropna()
        for words in (rating.anchors.high, rating.anchors.low)
    ]
    present = f"{len(ends[0])} of {len(rating.anchors.high)} high and {len(ends[1])} of {len(rating.anchors.low)} low anchors"
    if min(map(len, ends)) < FEWEST_WORDS:
        return f"not checked: {present} in the file"
    share = float((ends[0].to_numpy()[:, None] > ends[1].to_numpy()[None, :]).mean())
    if share >= ORDERED:
        return f"in order: {present}"
    high, low = (", ".join(list(end.index)[:6]) for end in ends)
    found = f"mean {ends[0].mean():.2f} of the high anchors ({high} ...) and {ends[1].mean():.2f} of the low ones ({low} ...)"
    if share <= 1 - ORDERED:
        remedy = (
            f"the scale is reversed: set 'reversed: {str(not source.reversed).lower()}' (now {str(source.reversed).lower()})"
        )
    else:
        remedy = f"the column does not hold this rating: see 'value: {source.value}'"
    raise DataError(
        f"{path}: expected high {name} ratings of the high anchors, found {found}; {remedy} in {_field(name, language)}"
    )


def _field(name: str, language: Language) -> str:
    return f"notebooks/settings/languages/{language.name}.yaml, ratings.{name}.sources"


def _convert_script(words: pd.Series, path: Path, language: Language) -> tuple[pd.Series, list[str]]:
    script = language.other_script
    if script is None:
        return words, []
    share = words.map(lambda word: not set(script.marks).isdisjoint(word)).mean()
    if share < FOREIGN_WORDS:
        return words, []
    if find_spec("opencc") is None:
        raise DataError(
            f"{path}: expected {language.label} words as the norms write them, found {script.name} script ({share:.0%} of the "
            f"words hold one of its commonest characters); the package OpenCC converts it: {EXTRA}"
        )
    import opencc

    converted = words.map(opencc.OpenCC(script.convert).convert)
    return converted, [f"{script.name} script: {(converted != words).sum()} of {len(words)} words converted"]


def _read(path: Path, source: RatingSource) -> pd.DataFrame:
    columns = [source.word, source.value]
    if path.suffix == ".xlsx":
        return _read_sheet(path, columns, source.sheet)
    if path.suffix in {".yaml", ".yml"}:
        return _read_dictionary(path, columns)
    return read_table(path, columns)


def _read_sheet(path: Path, columns: list[str], sheet: str | None) -> pd.DataFrame:
    if find_spec("openpyxl") is None:
        raise DataError(f"{path}: a workbook, which the package openpyxl reads: {EXTRA}; or save the sheet as CSV (UTF-8)")
    try:
        with pd.ExcelFile(note_read(path), engine="openpyxl") as book:
            if sheet is not None and sheet not in book.sheet_names:
                raise DataError(f"{path}: sheet '{sheet}' not found; the workbook holds: {', '.join(book.sheet_names)}")
            frame = pd.read_excel(book, book.sheet_names[0] if sheet is None else sheet, dtype=str, keep_default_na=False)
    except (zipfile.BadZipFile, KeyError) as error:
        raise DataError(f"{path}: no workbook, or a damaged one ({error}); fetch it again") from error
    names = {str(column).strip().lower(): column for column in frame.columns}
    missing = [column for column in columns if column.lower() not in names]
    if missing:
        raise DataError(f"{path}, row 1: column {', '.join(missing)} not found; it holds: {', '.join(map(str, frame.columns))}")
    frame = frame[[names[column.lower()] for column in columns]].set_axis(columns, axis=1)
    frame.index = frame.index + 2
    return frame.apply(lambda column: column.str.strip())


def _read_dictionary(path: Path, columns: list[str]) -> pd.DataFrame:
    word, value = columns
    try:
        # Nodes instead of objects: 'no' stays a word, and each entry knows its line.
        root = yaml.compose(note_read(path).read_text(encoding="utf-8"), Loader=getattr(yaml, "CBaseLoader", yaml.BaseLoader))
        entries = next(node for key, node in root.value if key.value == "Dictionary").value
        rows = [
            (key.start_mark.line + 1, key.value, next(v.value for k, v in node.value if k.value == value))
            for key, node in entries
        ]
    except yaml.YAMLError as error:
        raise DataError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    except (StopIteration, AttributeError, TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"{path}: expected 'Dictionary: {{word: {{{value}: number}}}}', found another structure") from error
    lines, words, values = zip(*rows, strict=True)
    return pd.DataFrame({word: words, value: values}, index=list(lines)).apply(lambda column: column.str.strip())


MATCHES = ("exact", "lemma", "unrated")
# Band of responses that no person of the norms gave to any cue.
UNSEEN = 0


def match_words(words: Iterable[str], scale: pd.Series, language: Language, rules: RatingRules) -> pd.DataFrame:
    """The rating of each word: its own, else that of its lemma.

    Parameters
    ----------
    words : iterable of str
        Normalised words, of people and of models alike.
    scale : Series
        Rating of each normalised word (`ratings.load_rating`).
    rules : RatingRules
        `lemma_backoff`: look for the lemma (`matching.fold_words`) of a word that is not rated itself, in languages that have a
        lemmatiser. `multiword`: responses of several words `exact` only, or by their folded form too.

    Returns
    -------
    DataFrame
        Indexed by distinct word: `value` (NaN where unrated), `match` ('exact', 'lemma' or 'unrated').

    Examples
    --------
    >>> from align_utils import config
    >>> cfg = config.load("smoke"); en = cfg.languages["en"]
    >>> match_words(["dog", "dogs", "hot dogs"], pd.Series({"dog": 4.9, "hot dog": 4.8}), en, cfg.profile.ratings)
              value    match
    dog         4.9    exact
    dogs        4.9    lemma
    hot dogs    NaN  unrated
    """
    found = pd.DataFrame({"value": scale.reindex(pd.Index(dict.fromkeys(words), dtype=str))}, dtype=float)
    found["match"] = np.where(found["value"].notna(), "exact", "unrated")
    # Without a lemmatiser only endings would be dropped, and 女儿 (daughter) is not rated as 女 is.
    if rules.lemma_backoff and language.lemmatiser:
        left = [word for word in found.index[found["value"].isna()] if rules.multiword == "lemma" or " " not in word]
        lemmas = scale.reindex(list(fold_words(left, language, "lemma").values())).to_numpy(dtype=float)
        known = [word for word, value in zip(left, lemmas, strict=True) if np.isfinite(value)]
        found.loc[known, "value"] = lemmas[np.isfinite(lemmas)]
        found.loc[known, "match"] = "lemma"
    return found


def weigh_responses(lists: pd.DataFrame, language: Language) -> pd.DataFrame:
    """Lists in long form: every response with its share of the cue's weight.

    Parameters
    ----------
    lists : DataFrame
        `cue`, `responses`, optionally `weights` (list of float beside the responses; default all alike). One row a cue.

    Returns
    -------
    DataFrame
        `cue, word` (normalised), `weight` (sums to 1 a cue); no row for a cue without responses.
    """
    rows = lists.assign(weights=lists["weights"] if "weights" in lists else [[1.0] * len(r) for r in lists["responses"]])
    rows = rows.loc[rows["responses"].map(len) > 0, ["cue", "responses", "weights"]].explode(["responses", "weights"])
    weight = rows["weights"].astype(float)
    forms = {word: language.normalise(word) for word in rows["responses"].unique()}
    share = weight / weight.groupby(rows["cue"]).transform("sum")
    return pd.DataFrame({"cue": rows["cue"], "word": rows["responses"].map(forms), "weight": share}).reset_index(drop=True)


def rate_responses(lists: pd.DataFrame, scales: dict[str, pd.Series], language: Language, rules: RatingRules) -> pd.DataFrame:
    """Mean rating of each cue's responses.

    Parameters
    ----------
    lists : DataFrame
        See `weigh_responses`.
    scales : dict
        Rating to Series, see `match_words`.

    Returns
    -------
    DataFrame
        `cue, rating, value` (NaN where nothing is rated), `exact, lemma, unrated` (shares of the response weight, which sum to
        1; NaN for a cue without responses).
    """
    long, parts = weigh_responses(lists, language), []
    for name, scale in scales.items():
        found = match_words(long["word"], scale, language, rules).loc[long["word"]].reset_index(drop=True)
        mass = long["weight"].where(found["value"].notna(), 0.0)
        sums = pd.DataFrame({"cue": long["cue"], "value": mass * found["value"].fillna(0.0), "mass": mass})
        sums = sums.assign(**{match: long["weight"].where(found["match"] == match, 0.0) for match in MATCHES})
        table = sums.groupby("cue").sum().reindex(lists["cue"])
        table["value"] = table["value"] / table["mass"].where(table["mass"] > 0)
        parts.append(table.reset_index().assign(rating=name)[["cue", "rating", "value", *MATCHES]])
    columns = ["cue", "rating", "value", *MATCHES]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def band_words(norms: pd.DataFrame, language: Language, *, bands: int) -> pd.DataFrame:
    """Bands of response frequency, each with about the same number of people's responses (tokens).

    Parameters
    ----------
    norms : DataFrame
        `response, count` over all cues.
    bands : int

    Returns
    -------
    DataFrame
        Indexed by normalised response: `count` (over all cues) and `band` (1 the most frequent). Words of one count share a
        band: that in which the middle of their tokens lies.

    Examples
    --------
    >>> from align_utils import config
    >>> en = config.load("smoke").languages["en"]
    >>> norms = pd.DataFrame({"response": ["dog", "Dog", "cat", "fox", "owl"], "count": [4, 2, 3, 2, 1]})
    >>> band_words(norms, en, bands=2)["band"].to_dict()
    {'dog': 1, 'cat': 2, 'fox': 2, 'owl': 2}
    """
    forms = {word: language.normalise(word) for word in norms["response"].unique()}
    counts = norms["count"].groupby(norms["response"].map(forms)).sum()
    tokens = (counts.value_counts() * counts.value_counts().index).sort_index(ascending=False)
    middle = (tokens.cumsum() - tokens / 2) / tokens.sum()
    band = 1 + np.minimum((middle * bands).astype(int), bands - 1)
    table = pd.DataFrame({"count": counts, "band": counts.map(band)}).rename_axis("word")
    return table.sort_values("count", ascending=False, kind="stable")


def tabulate_bands(
    lists: pd.DataFrame, scale: pd.Series, bands: pd.Series, language: Language, rules: RatingRules
) -> pd.DataFrame:
    """Share, coverage and mean rating of the responses of each band, every cue with the same weight.

    Parameters
    ----------
    lists, scale : DataFrame, Series
        See `weigh_responses` and `match_words`.
    bands : Series
        Word to band (`band_words`); other words are in band `UNSEEN`.

    Returns
    -------
    DataFrame
        `band, words, rated_words` (distinct), `share` (of the response weight, sums to 1), `rated` (share of the band's weight
        that is rated), `value` (mean rating, NaN where nothing is rated); bands without responses are left out.
    """
    long = weigh_responses(lists, language)
    value = match_words(long["word"], scale, language, rules)["value"].reindex(long["word"]).to_numpy()
    mass = long["weight"].where(np.isfinite(value), 0.0)
    frame = pd.DataFrame({
        "band": bands.reindex(long["word"]).fillna(UNSEEN).astype(int).to_numpy(), "word": long["word"], "share": long["weight"],
        "known": long["word"].where(np.isfinite(value)), "mass": mass, "sum": mass * np.nan_to_num(value),
    })  # fmt: skip
    table = frame.groupby("band").agg(
        words=("word", "nunique"),
        rated_words=("known", "nunique"),
        share=("share", "sum"),
        mass=("mass", "sum"),
        sum=("sum", "sum"),
    )
    table["rated"], table["value"] = table["mass"] / table["share"], table["sum"] / table["mass"].where(table["mass"] > 0)
    table["share"] /= table["share"].sum()
    return table.reset_index()[["band", "words", "rated_words", "share", "rated", "value"]]


def reweigh_mean(table: pd.DataFrame, people: pd.DataFrame, *, fewest: int) -> dict[str, object]:
    """Mean rating as it is, and with the bands weighted as in all of people's responses, rated or not.

    Parameters
    ----------
    table, people : DataFrame
        From `tabulate_bands`.
    fewest : int
        Bands in which either side has fewer distinct rated words are left out on both sides: their mean is that of a few words.

    Returns
    -------
    dict
        `mean` (over rated responses), `reweighed`, `human` (people re-weighted over the same bands), `bands` (those used, as
        text); NaN where no band is left.

    Examples
    --------
    >>> people = pd.DataFrame({"band": [1, 2], "rated_words": [9, 9], "share": [0.5, 0.5], "rated": [1.0, 0.5], "value": [2.0, 5.0]})
    >>> reweigh_mean(people, people, fewest=5)
    {'mean': 3.0, 'reweighed': 3.5, 'human': 3.5, 'bands': '1, 2'}
    """
    mass = table["share"] * table["rated"]
    plain = float((mass * table["value"].fillna(0.0)).sum() / mass.sum()) if mass.sum() else float("nan")
    both = people.merge(table, on="band", suffixes=("_human", ""))
    both = both[(both["rated_words_human"] >= fewest) & (both["rated_words"] >= fewest)]
    weight = both["share_human"] / both["share_human"].sum()
    means = {"reweighed": both["value"], "human": both["value_human"]}
    found = {name: float((weight * values).sum()) if len(both) else float("nan") for name, values in means.items()}
    return {"mean": plain, **found, "bands": ", ".join(map(str, both["band"]))}


def list_people(norms: pd.DataFrame, cues: Sequence[str]) -> pd.DataFrame:
    """People's responses to the cues, weighted by strength: `cue, responses, weights`."""
    part = norms[norms["cue"].isin(set(cues))]
    return part.groupby("cue").agg(responses=("response", list), weights=("strength", list)).reset_index()


def list_strongest(norms: pd.DataFrame, cues: Sequence[str], *, k: int) -> pd.DataFrame:
    """People's k strongest responses to the cues, all with the same weight, as a model's list: `cue, responses`."""
    part = norms[norms["cue"].isin(set(cues))].sort_values(["cue", "strength", "response"], ascending=[True, False, True])
    return part.groupby("cue").head(k).groupby("cue").agg(responses=("response", list)).reset_index()


def halve_ratings(
    trials: pd.DataFrame, cues: Sequence[str], scale: pd.Series, language: Language, *, splits: int, seed: int
) -> np.ndarray:
    """Differences between two random halves of the participants in the mean rating of their responses.

    Parameters
    ----------
    trials : DataFrame
        `cue, R1, R2, R3`, empty strings for missing.
    cues : sequence of str
        Those to average over; cues without two participants who gave a rated response are left out.
    scale : Series
        Rating of each normalised word.
    splits, seed : int

    Returns
    -------
    ndarray, shape (splits,)
        Mean over cues of first half - second half, scale points; empty where no cue is left.
    """
    people = _sum_participants(trials, cues, scale, language)
    rng, differences = np.random.default_rng(seed), []
    for _, part in people.groupby("cue"):
        if len(part) < 2:
            continue
        orders = rng.permuted(np.tile(np.arange(len(part)), (splits, 1)), axis=1)
        sums, counts = (part[name].to_numpy()[orders] for name in ("sum", "count"))
        half = len(part) // 2
        differences.append(sums[:, :half].sum(1) / counts[:, :half].sum(1) - sums[:, half:].sum(1) / counts[:, half:].sum(1))
    return np.mean(differences, axis=0) if differences else np.empty(0)


def list_halvable(trials: pd.DataFrame, cues: Sequence[str], scale: pd.Series, language: Language) -> list[str]:
    """Those of the cues over which `halve_ratings` averages: two participants or more gave a rated response."""
    sizes = _sum_participants(trials, cues, scale, language).groupby("cue").size()
    return sizes.index[sizes >= 2].tolist()


def find_margin(differences: np.ndarray, *, level: float = 0.95) -> float:
    """Half the central range of the split-half differences; NaN for none.

    Examples
    --------
    >>> round(find_margin(np.linspace(-1, 1, 1001)), 2)
    0.95
    """
    if not len(differences):
        return float("nan")
    low, high = np.quantile(differences, [(1 - level) / 2, (1 + level) / 2])
    return float(high - low) / 2


def show_equivalence(differences: Sequence[float], groups: Sequence, margin: float) -> dict[str, float]:
    """Two one-sided t-tests (TOST) of a mean difference against ±margin, over the means of whole groups.

    Parameters
    ----------
    differences : sequence of float
        Finite.
    groups : sequence
        Units that count as one observation (concept families).
    margin : float
        Above 0, fixed before any model is looked at.

    Returns
    -------
    dict
        `value` (mean), `low, high` (90 % interval, which lies within ±margin where p < 0.05), `n` (groups), `margin`, `p` (the
        larger of the two one-sided p; NaN for fewer than two groups or no margin).

    Source
    ------
    Schuirmann (1987), two one-sided tests.
    """
    means = pd.Series(np.asarray(differences, dtype=float)).groupby(np.asarray(groups)).mean().to_numpy()
    found = {"value": float(np.mean(means)) if len(means) else np.nan, "low": np.nan, "high": np.nan, "n": len(means)}
    if len(means) < 2 or not margin > 0:
        return {**found, "margin": margin, "p": np.nan}
    lower = stats.ttest_1samp(means, -margin, alternative="greater")
    upper = stats.ttest_1samp(means, margin, alternative="less")
    interval = stats.ttest_1samp(means, 0.0).confidence_interval(0.9)
    found |= {"low": float(interval.low), "high": float(interval.high)}
    return {**found, "margin": margin, "p": float(max(lower.pvalue, upper.pvalue))}


def _sum_participants(trials: pd.DataFrame, cues: Sequence[str], scale: pd.Series, language: Language) -> pd.DataFrame:
    long = trials[trials["cue"].isin(set(cues))].reset_index(drop=True).reset_index(names="trial")
    long = long.melt(["trial", "cue"], ["R1", "R2", "R3"], value_name="word")
    forms = {word: language.normalise(word) for word in long["word"].unique() if word}
    long["value"] = long["word"].map(forms).map(scale)
    return long.dropna(subset="value").groupby(["cue", "trial"])["value"].agg(["sum", "count"])


# A model's list counts with so many responses; people with all of theirs, weighted by strength.
RATED = 5
# People's list of the same length, for what the length alone does to a mean.
PEOPLE = ("human", f"human_top{RATED}")
# Distinct rated words that a band of response frequency needs on either side to count in a re-weighted mean.
FEWEST_CUES = 10
GROUP = ["model", "culture", "rating"]
# Statistic of the headline record of each rating; the paper states the median for concreteness alone.
STATISTICS = {"concreteness": "median"}
Scales = dict[str, dict[str, pd.Series]]


def load_scales(cfg: Config) -> tuple[Scales, pd.DataFrame]:
    """Ratings of every culture's language, and what was read and checked.

    Returns
    -------
    (dict, DataFrame)
        Culture to rating to Series; one row a language and rating (`ratings.COLUMNS`; `file` says 'not measured' and why where
        there is none).
    """
    loaded, parts = {}, []
    for name, language in cfg.languages.items():
        loaded[name], table, absent = load_ratings(cfg, language)
        rows = [{"language": name, "rating": rating, "file": reason} for rating, reason in absent.items()]
        parts += table.drop(columns="path").to_dict("records") + rows
    scales = {name: loaded[culture.language] for name, culture in cfg.cultures.items()}
    return scales, pd.DataFrame(parts, columns=RATING_COLUMNS)


def rate_conditions(cfg: Config, lists: pd.DataFrame, stage: dict[str, CultureNorms], scales: Scales) -> pd.DataFrame:
    """Mean ratings of the responses of people and of every stage to every test cue; nothing is left out yet.

    People stand there twice: `human`, all their responses by strength, and `human_top5`, their five strongest alike, which are as
    many as a model's list counts with.

    Parameters
    ----------
    lists : DataFrame
        From `associations.load_associations`.
    stage : dict
        From `pairs.load_run`.

    Returns
    -------
    DataFrame
        `model, culture, label, stage, cue, rating`, and `value, exact, lemma, unrated` of `rated.rate_responses`. Ratings that
        one culture of the run has and another has not keep their rows, empty: what was not measured is shown as such.
    """
    parts = [pd.DataFrame(columns=["model", "culture", "label", "stage", "cue", "rating", "value", *MATCHES])]
    wanted = list(dict.fromkeys(name for found in scales.values() for name in found))
    for culture, data in stage.items():
        found = {name: scales[culture].get(name, pd.Series(dtype=float)) for name in wanted}
        for (model, name), part in _list_conditions(cfg, lists, culture, data).items():
            table = rate_responses(part, found, cfg.language_of(culture), cfg.profile.ratings)
            parts.append(table.assign(model=model, culture=culture, label=cfg.label(model, culture), stage=name))
    frame = pd.concat([part for part in parts if len(part)] or parts, ignore_index=True)[parts[0].columns]
    order = frame["rating"].map({name: place for place, name in enumerate(wanted)})
    return frame.iloc[np.argsort(order.to_numpy(), kind="stable")].reset_index(drop=True)


def pair_with_people(frame: pd.DataFrame) -> pd.DataFrame:
    """Beside every row people's value of the same cue (`human`); both empty unless both sides have one."""
    people = frame.loc[frame["stage"] == "human", [*GROUP, "cue", "value"]].rename(columns={"value": "human"})
    both = frame.merge(people, on=[*GROUP, "cue"], how="left", validate="many_to_one")
    known = both["value"].notna() & both["human"].notna()
    return both.assign(value=both["value"].where(known), human=both["human"].where(known))


def summarise_ratings(cfg: Config, frame: pd.DataFrame, families: dict) -> pd.DataFrame:
    """Mean and median of each rating over the cues that the stage and people both have, with people's beside it.

    Parameters
    ----------
    frame : DataFrame
        From `rate_conditions`.
    families : dict
        From `pairs.map_families`.

    Returns
    -------
    DataFrame
        `model, culture, rating, stage, statistic, value, low, high` (interval over families), `n` (cues in it), `human` (the
        same statistic of people over these n cues), `mask` (which cues), `cues` (asked), `empty` (of them without a response),
        `exact, lemma, unrated` (mean shares of the response weight over the cues that have responses).
    """
    by = [*GROUP, "stage"]
    both = _add_family(pair_with_people(frame), families)
    # Column by column: a mean over people's values for the same rows.
    cover = frame.groupby(by).agg(
        cues=("cue", "size"),
        listed=("exact", "count"),
        exact=("exact", "mean"),
        lemma=("lemma", "mean"),
        unrated=("unrated", "mean"),
    )
    cover = cover.assign(empty=cover["cues"] - cover["listed"]).reset_index()[[*by, "cues", "empty", *MATCHES]]
    parts = []
    for name, function in (("mean", np.mean), ("median", np.median)):
        table = summarise(both, by, "value", unit="family", statistic=function, **cfg.bootstrap)
        human = both.groupby(by)["human"].agg(name).reset_index()
        parts.append(table.merge(human, on=by).assign(statistic=name))
    table = pd.concat(parts).merge(cover, on=by)
    table["mask"] = np.where(table["stage"] == "human", "cues rated for people", "cues rated for the stage and people")
    columns = [*by, "statistic", "value", "low", "high", "n", "human", "mask", "cues", "empty", *MATCHES]
    return table.sort_values([*GROUP, "statistic"], kind="stable", ignore_index=True)[columns]


def compare_ratings(cfg: Config, frame: pd.DataFrame, families: dict, pairs: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """Paired differences in mean rating between two stages, or a stage and people, over the cues which these two have.

    Returns
    -------
    DataFrame
        See `stats.compare`, with `median` (difference of the two medians over the same cues) and `mask`.
    """
    frame = _add_family(frame, families)
    table = compare(frame, GROUP, "value", over="stage", pairs=pairs, key="cue", unit="family", **cfg.bootstrap)
    wide = frame.pivot(index=[*GROUP, "cue"], columns="stage", values="value")
    medians = []
    for row in table.to_dict("records"):
        part = wide.xs(tuple(row[name] for name in GROUP), level=GROUP)[row["comparison"].split(" - ")].dropna().median()
        medians.append(part.iloc[0] - part.iloc[1])
    return table.assign(median=medians, mask="cues rated on both sides")


def band_ratings(
    cfg: Config, lists: pd.DataFrame, stage: dict[str, CultureNorms], scales: Scales
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Ratings by band of response frequency, and means re-weighted to people's shares of the bands.

    Frequent words are rated more often than rare ones, and stages use them to different degrees: either moves a mean that says
    nothing of the words themselves.

    Returns
    -------
    (DataFrame, DataFrame)
        `model, culture, rating, stage, band` (1 the most frequent, 0 given by nobody), `least` and `most` (count of its words
        over all cues), and the rest of `rated.tabulate_bands`; then `model, culture, rating, stage, mean` (all rated responses to
        all test cues, each cue alike), `reweighed, bands` (`rated.reweigh_mean`), `gap` and `gap_reweighed` (from people's).
    """
    rules, tables, means = cfg.profile.ratings, [], []
    for culture, data in stage.items():
        language = cfg.language_of(culture)
        bands = band_words(data.norms, language, bands=rules.bands)
        ends = bands.groupby("band")["count"].agg(least="min", most="max")
        conditions = _list_conditions(cfg, lists, culture, data)
        for rating, scale in scales[culture].items():
            found = {key: tabulate_bands(part, scale, bands["band"], language, rules) for key, part in conditions.items()}
            for (model, name), table in found.items():
                where = {"model": model, "culture": culture, "rating": rating, "stage": name}
                tables.append(table.merge(ends.reset_index(), how="left").assign(**where))
                people = reweigh_mean(found[model, "human"], found[model, "human"], fewest=FEWEST_CUES)
                shown = reweigh_mean(table, found[model, "human"], fewest=FEWEST_CUES)
                gaps = {"gap": shown["mean"] - people["mean"], "gap_reweighed": shown["reweighed"] - shown.pop("human")}
                means.append({**where, **shown, **gaps})
    by = [*GROUP, "stage"]
    columns = [*by, "band", "least", "most", "words", "rated_words", "share", "rated", "value"]
    table = pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns)
    return table, pd.DataFrame(means, columns=[*by, "mean", "reweighed", "bands", "gap", "gap_reweighed"])


def judge_human_level(
    cfg: Config, frame: pd.DataFrame, stage: dict[str, CultureNorms], families: dict, scales: Scales
) -> pd.DataFrame:
    """Equivalence of every stage's mean ratings with people's; the margin is how far halves of the people differ from each other.

    Margin and test are over the same cues: those to which two participants or more gave a rated response, whatever any model
    answers; the stages' cues are those of them that the stage has too (`cues` beside `margin_cues`). The lemma back-off is the
    same for the halves, people's means and the stages.

    Returns
    -------
    DataFrame
        `model, culture, rating, stage, value` (mean paired difference from people), `low, high` (90 %), `n` (families), `margin,
        p` (`equivalence.show_equivalence`), `cues, margin_cues`. No margin, so no p, where a culture has no participants' trials.
    """
    rows = []
    for culture, data in stage.items():
        margins = _find_margins(cfg, culture, data.trials, data.cues["test"], scales[culture])
        mine = pair_with_people(frame[frame["culture"] == culture]).dropna(subset="value")
        for (rating, model, name), part in mine[~mine["stage"].isin(PEOPLE)].groupby(["rating", "model", "stage"], sort=False):
            margin, cues = margins[rating]
            part = part if cues is None else part[part["cue"].isin(set(cues))]
            if part.empty:
                continue
            gaps = part["value"] - part["human"]
            shown = show_equivalence(gaps, [families[culture, cue] for cue in part["cue"]], margin)
            counts = {"cues": len(part), "margin_cues": 0 if cues is None else len(cues)}
            rows.append({"model": model, "culture": culture, "rating": rating, "stage": name, **shown, **counts})
    columns = [*GROUP, "stage", "value", "low", "high", "n", "margin", "p", "cues", "margin_cues"]
    return pd.DataFrame(rows, columns=columns)


def list_rating_metrics(cfg: Config, means: pd.DataFrame, gaps: pd.DataFrame, level: pd.DataFrame) -> list[dict]:
    """Metric records of the ratings: levels, people's beside them, coverage, differences and human level."""
    language = {name: culture.language for name, culture in cfg.cultures.items()}
    means, gaps, level = (table.assign(language=table["culture"].map(language)) for table in (means, gaps, level))
    records = []
    for name, part in means.groupby("rating", sort=False):
        statistic = STATISTICS.get(name, "mean")
        part = part[part["statistic"] == statistic]
        records += list_records(part, f"{name}_{statistic}", unit="scale points")
        bare = part.drop(columns=["value", "low", "high"])
        same = bare[bare["stage"] != "human"].rename(columns={"human": "value"})
        records += list_records(same, f"{name}_{statistic}_human_same_cues", unit="scale points")
        for match in ("exact", "lemma"):
            shares = bare.drop(columns="n").rename(columns={match: "value", "cues": "n"})
            records += list_records(shares, f"{name}_coverage", unit="share", method=match)
    for name, part in gaps.rename(columns={"comparison": "method"}).groupby("rating", sort=False):
        records += list_records(part, f"{name}_difference", unit="scale points")
        medians = part.drop(columns=["value", "low", "high"]).rename(columns={"median": "value"})
        records += list_records(medians, f"{name}_median_difference", unit="scale points")
    level = level.rename(columns={"rating": "method"})
    records += list_records(level, "human_level_difference", unit="scale points")
    return records + list_records(level.drop(columns=["value", "low", "high"]).rename(columns={"p": "value"}), "human_level_p")


def _list_conditions(cfg: Config, lists: pd.DataFrame, culture: str, data: dict) -> dict[tuple[str, str], pd.DataFrame]:
    people, conditions = list_people(data.norms, data.cues["test"]), {}
    strongest = list_strongest(data.norms, data.cues["test"], k=RATED)
    for model in cfg.models:
        mine = lists.loc[(lists["culture"] == culture) & (lists["model"] == model), ["stage", "cue", "responses"]]
        mine = mine.assign(responses=mine["responses"].map(lambda words: list(words)[:RATED]))
        conditions |= {(model, PEOPLE[0]): people, (model, PEOPLE[1]): strongest}
        conditions |= {(model, name): part for name, part in mine.groupby("stage", sort=False)}
    return conditions


def _find_margins(
    cfg: Config, culture: str, trials: pd.DataFrame | None, cues: Sequence[str], scales: dict[str, pd.Series]
) -> dict[str, tuple]:
    language = cfg.language_of(culture)
    if trials is None:
        return dict.fromkeys(scales, (float("nan"), None))
    trials, margins = trials[trials["cue"].isin(set(cues))], {}
    words = {language.normalise(word) for column in ("R1", "R2", "R3") for word in trials[column].unique()}
    settings = {"splits": cfg.profile.lexical.ceiling_splits, "seed": cfg.profile.seed}
    for rating, scale in scales.items():
        matched = match_words(sorted(words), scale, language, cfg.profile.ratings)["value"].dropna()
        halves = halve_ratings(trials, cues, matched, language, **settings)
        margins[rating] = (find_margin(halves), list_halvable(trials, cues, matched, language))
    return margins


def _add_family(frame: pd.DataFrame, families: dict) -> pd.DataFrame:
    return frame.assign(family=[families[key] for key in zip(frame["culture"], frame["cue"], strict=True)])
