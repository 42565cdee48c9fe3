"""Word ratings (concreteness, valence, arousal, dominance): the published files read, checked and reported."""

from __future__ import annotations

import zipfile
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import yaml

from align_utils.config import Config, Language
from align_utils.rating_settings import Rating, RatingSource
from align_utils.tables import DataError, find_file, parse_numbers, read_table

EXTRA = "pip install -c constraints.txt -e '.[ratings]'"
# Fewer anchors than this at either end show nothing.
FEWEST = 3
# Shares of (high, low) anchor pairs in the right order: all published files give 1; a reversed one 0; a column of standard
# deviations about a half.
ORDERED = 0.8
# Share of words with a character of the other script from which a file counts as written in it; the simplified files give 0.
FOREIGN = 0.02
# Published ratings fill 77 % of their scale or more; under this share of it, by so many words, the scale is another one.
NARROW, ENOUGH = 0.55, 100
COLUMNS = ["language", "rating", "file", "words", "scale", "lowest", "highest", "anchors", "note"]


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
    return found, pd.DataFrame(rows, columns=[*COLUMNS, "path"]), absent


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
    if min(map(len, ends)) < FEWEST:
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
    return f"notebooks/languages/{language.name}.yaml, ratings.{name}.sources"


def _convert_script(words: pd.Series, path: Path, language: Language) -> tuple[pd.Series, list[str]]:
    script = language.other_script
    if script is None:
        return words, []
    share = words.map(lambda word: not set(script.marks).isdisjoint(word)).mean()
    if share < FOREIGN:
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
        with pd.ExcelFile(path, engine="openpyxl") as book:
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
        root = yaml.compose(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CBaseLoader", yaml.BaseLoader))
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
