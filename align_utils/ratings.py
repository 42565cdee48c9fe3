"""Word ratings: concreteness, valence and arousal from the files a language names."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from align_utils.config import Config, Language, RatingFile
from align_utils.tables import DataError, find_file, parse_numbers, read_table


def load_rating(path: Path, rating: RatingFile, language: Language) -> pd.Series:
    """Read one rating.

    Parameters
    ----------
    path : Path
        TAB or comma; the columns are those the language's YAML names.
    rating : RatingFile
        Column names and scale; a reversed scale (Xu & Li 2020: 1 very concrete) is turned as low + high - x.
    language : Language
        Words are indexed by their normalised form; words that normalise alike are averaged.

    Returns
    -------
    Series
        Rating in [low, high], indexed by normalised word.

    Raises
    ------
    DataError
        See `read_table`; or a value lies outside the scale.
    """
    frame = read_table(path, [rating.word, rating.value])
    frame = frame[frame[rating.value].str.upper() != "NA"]
    if frame.empty:
        raise DataError(f"{path}: column '{rating.value}' holds no value")
    values = parse_numbers(frame, rating.value, path, low=rating.low, high=rating.high)
    if rating.reversed:
        values = rating.low + rating.high - values
    return values.groupby(frame[rating.word].map(language.normalise)).mean()


def load_ratings(cfg: Config, language: Language) -> tuple[dict[str, pd.Series], list[Path], dict[str, str]]:
    """All ratings of a language that the run's data folder holds.

    Returns
    -------
    (dict, list of Path, dict)
        Series per rating found; the files read; for each rating not found, what was looked for ('not measured').
    """
    found, paths, absent = {}, [], {}
    for name, rating in language.ratings.items():
        path = find_file(cfg.data_dir / "ratings", rating.files)
        if path is None:
            absent[name] = "not measured: none of " + ", ".join(rating.files)
            continue
        found[name] = load_rating(path, rating, language)
        paths.append(path)
    return found, paths, absent
