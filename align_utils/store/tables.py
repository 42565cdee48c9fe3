"""The shown form of a tidy frame: a short table with plain names, each estimate with its interval in one cell."""

import math
from collections.abc import Mapping, Sequence

import pandas as pd

# Columns that say how firm a value is, and stand in its cell.
INTERVAL = ("value", "low", "high")


def write_interval(row: Mapping, form: str = ".2f") -> str:
    """A value with its interval where it has one; nothing where it has no value.

    Of a change (a `form` with a sign) an end that would read as 0 and is not has the digits that it needs: whether 0 lies inside is what
    the interval is read for.

    >>> write_interval({"value": 0.413, "low": 0.35, "high": 0.484}), write_interval({"value": 0.5, "low": None}, "+.1f")
    ('0.41 [0.35, 0.48]', '+0.5')
    >>> write_interval({"value": -0.23, "low": -0.44, "high": -0.04}, "+.1f")
    '-0.2 [-0.4, -0.04]'
    """
    value, low, high = (row.get(name) for name in INTERVAL)
    if isinstance(value, str):
        return value
    form = form.replace(".", "z.")  # no -0.00
    if pd.isna(value):
        return ""
    ends = [] if pd.isna(low) or pd.isna(high) else [_write_end(end, form) for end in (low, high)]
    return f"{value:{form}} [{', '.join(ends)}]" if ends else f"{value:{form}}"


def _write_end(end: float, form: str) -> str:
    text = f"{end:{form}}"
    # Less than a millionth is what rounding leaves of 0.
    if "+" not in form or text.strip("+0.") or abs(end) < 1e-6:
        return text
    return f"{end:+.{-math.floor(math.log10(abs(end)))}f}"


def lay_out(
    frame: pd.DataFrame, *, rows: Sequence[str] = (), columns: Sequence[str] = (), form: str = ".2f",
    names: Mapping[str, str] = {},
) -> pd.DataFrame:  # fmt: skip
    """Turn a tidy frame (one row an estimate: `value`, perhaps `low, high`, and what it is of) into the table of text that is shown.

    `rows` and `columns` are what a row and a column of the table stand for: one cell for each pair of their combinations, in
    the frame's order; a ValueError where several rows fall into one cell. Without `columns`, `rows` names the columns that are
    shown; without both all are, less those that are the same in every row. With `columns` the last of `rows` alone stays where
    it is always the same. `form` formats numbers with a fraction; `names` maps codes, of values and of columns, to the names
    that are shown.

    >>> lay_out(pd.DataFrame({"n": [48, 150], "power": [1.0, 0.9]})).to_numpy().tolist()  # counts are whole, shares are not
    [['48', '1.00'], ['150', '0.90']]
    """
    frame = frame.reset_index(drop=True)
    # A probability that is given as 0 would be a lie.
    frame = frame.assign(**{name: frame[name].map(lambda p: "" if pd.isna(p) else "< 0.001" if p < 0.001 else f"{p:.3f}")
                            for name in ("p", "p_holm") if name in frame})  # fmt: skip
    if "value" in frame and ("low" in frame or columns):
        cells = [write_interval(row, form) for row in frame.to_dict("records")]
        frame = frame.drop(columns=[name for name in INTERVAL[1:] if name in frame]).assign(value=cells)
    rename = {**names, "p_holm": "p (Holm)"}
    if columns:
        # What was not measured has no column to stand in.
        frame = frame[frame[list(columns)].notna().all(axis=1)]
        keys = [*rows, *columns]
        double = frame[frame.duplicated(keys)]
        if len(double):
            raise ValueError(
                f"two values for one cell of the table: {double[keys].iloc[0].to_dict()}; name more rows or columns"
            )
        wide = frame.set_index(keys)["value"].unstack(list(columns), sort=False)
        heads = wide.columns.to_frame().to_numpy().tolist()
        frame = wide.set_axis([", ".join(rename.get(part, str(part)) for part in head) for head in heads], axis=1).reset_index()
        frame = frame.drop(columns=[name for name in rows[:-1] if frame[name].nunique() == 1])
    elif rows:
        frame = frame[list(rows)]
    elif len(frame) > 1:
        frame = frame[[name for name in frame if name == "value" or frame[name].nunique(dropna=False) > 1]]
    for name in frame.columns:
        cells = frame[name].tolist()
        # A count stays a count; a share of exactly 1 among others has as many places as they have.
        whole = all(float(cell).is_integer() for cell in cells if not isinstance(cell, str) and pd.notna(cell))
        frame = frame.assign(**{name: [_write(cell, ".0f" if whole else form, rename) for cell in cells]})
    return frame.rename(columns=rename)


def _write(cell, form: str, names: Mapping[str, str]) -> str:
    if isinstance(cell, str):
        # A comparison, 'new - old', is one of two names.
        return names[cell] if cell in names else " - ".join(names.get(part, part) for part in cell.split(" - "))
    if pd.isna(cell):
        return ""
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    return f"{cell:{form.replace('.', 'z.')}}"
