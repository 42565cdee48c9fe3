"""Made-up files in the formats of the World Values Survey, for tests and for `make bench`; nothing in them is anybody's answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as arrow

# 66 countries or territories of about 1,470 respondents, the two of the run larger: 97,000 rows.
OTHERS = [f"X{a}{b}" for a in "ABCDEFGH" for b in "ABCDEFGH"]
HEAD = [
    "version",
    "doi",
    "A_WAVE",
    "A_YEAR",
    "A_STUDY",
    "B_COUNTRY",
    "B_COUNTRY_ALPHA",
    "D_INTERVIEW",
    "LNGE_ISO",
    "W_WEIGHT",
    "S018",
]


def make_people(items: pd.DataFrame, *, sizes: dict[str, int], seed: int, missing: float = 0.03) -> pd.DataFrame:
    """Respondents with weights of mean 1 and an answer, or a missing code, to every item; a country leans to one end of the scales."""
    rng = np.random.default_rng(seed)
    parts = []
    for number, (country, size) in enumerate(sizes.items()):
        part = {"B_COUNTRY_ALPHA": np.repeat(country, size), "D_INTERVIEW": 1_000_000 * (number + 1) + np.arange(size)}
        weight = rng.lognormal(0, 0.5, size)
        part["W_WEIGHT"] = (weight / weight.mean()).round(6)
        for item in items.itertuples():
            lean = rng.dirichlet(np.ones(len(item.codes)))
            codes = rng.choice(item.codes, size=size, p=lean)
            gone = rng.random(size) < missing
            part[item.question] = np.where(gone, rng.choice([-1, -2], size=size), codes)
        parts.append(pd.DataFrame(part))
    return pd.concat(parts, ignore_index=True)


def write_official(path: Path, items: pd.DataFrame, *, rows: int = 97_000, columns: int = 600, seed: int = 1) -> None:
    """A file of the cross-national release's size and looks: BOM, comma, many columns that nobody here reads."""
    sizes = {"USA": 2596, "CHN": 3036}
    rest = rows - sum(sizes.values())
    sizes |= {country: rest // len(OTHERS) + (number < rest % len(OTHERS)) for number, country in enumerate(OTHERS)}
    people = make_people(items, sizes=sizes, seed=seed)
    rng = np.random.default_rng(seed)
    table = {
        name: np.repeat({"version": "6-0-0 (made up)", "doi": "doi.org/10.14281/18241.24"}.get(name, "7"), rows)
        for name in HEAD
    }
    table |= {name: people[name].to_numpy() for name in people if name in HEAD}
    table |= {name: people[name].to_numpy() for name in people if name not in HEAD}
    for number in range(columns - len(table)):
        table[f"Y{number:03d}"] = rng.integers(-4, 10, size=rows) if number % 3 else rng.random(rows).round(6)
    with path.open("wb") as file:
        file.write(b"\xef\xbb\xbf")
        arrow.write_csv(pa.table(table), file)


def make_world(
    axes: dict, items: pd.DataFrame, truth: pd.DataFrame, *, size: int, seed: int, missing: float = 0.03
) -> pd.DataFrame:
    """Respondents around their country's place on two hidden traits, who answer the map's items by the trait of the item's axis.

    Parameters
    ----------
    axes : dict
        As read from `map.yaml`.
    truth : DataFrame, shape (countries, 2)
        Mean of both traits by country, in standard deviations of the people of a country; columns are the axes.
    """
    rng = np.random.default_rng(seed)
    rules = items.set_index("question")
    parts = []
    for number, (country, place) in enumerate(truth.iterrows()):
        part = {"B_COUNTRY_ALPHA": np.repeat(country, size), "D_INTERVIEW": 1_000_000 * (number + 1) + np.arange(size)}
        weight = rng.lognormal(0, 0.5, size)
        part["W_WEIGHT"] = (weight / weight.mean()).round(6)
        for axis, content in axes.items():
            trait = place[axis] + rng.normal(size=size)
            for question, sign in (pair for component in content["components"].values() for pair in component.items()):
                leaning, codes = trait + rng.normal(0, 0.8, size), np.array(rules.loc[question, "codes"])
                if isinstance(sign, dict):  # codes 2 and 4 toward the upper end
                    answers = np.where(leaning > 0, rng.choice([2, 4], size), rng.choice([1, 3], size))
                else:
                    cuts = np.linspace(-1.5, 1.5, len(codes) + 1)[1:-1]
                    answers = codes[np.searchsorted(cuts, sign * leaning)]
                part[question] = np.where(rng.random(size) < missing, rng.choice([-1, -2], size=size), answers)
        parts.append(pd.DataFrame(part))
    return pd.concat(parts, ignore_index=True)


def make_answers(adapter: str, stage: str, shares: dict[str, dict | list], **names) -> pd.DataFrame:
    """Averaged answers of one answerer: by question a share by code, or shares of the codes from 1."""
    named = {"model": "m", "adapter": adapter, "stage": stage, "language": "en", "persona": "none", "seed": 0, **names}
    coded = {q: given if isinstance(given, dict) else dict(enumerate(given, start=1)) for q, given in shares.items()}
    return pd.DataFrame(
        [{**named, "question": q, "code": c, "share": s} for q, given in coded.items() for c, s in given.items()]
    )


def as_asked(averaged: pd.DataFrame, **names) -> pd.DataFrame:
    """Averaged answers as if they were asked in one order."""
    return averaged.rename(columns={"share": "probability"}).assign(
        order=0, place=averaged.groupby("question").cumcount() + 1, **names
    )
