"""The metric records of notebook 04: which column of which table stands under which name."""

from __future__ import annotations

import pandas as pd

from align_utils.config.profiles import Config
from align_utils.store.page import list_records

# Statistic of the headline record of each rating; the paper states the median for concreteness alone.
STATISTICS = {"concreteness": "median"}
# Of the measures that are no share.
UNITS = {"entropy": "bits", "entropy_gap": "bits", "distinct": "responses", "distinct_gap": "responses"}
# Groups of records, written group by group in the order of a column's values: that column, and for every record its table, its name, its
# unit, and the column that is its value, where that is another than `value`.
RECORDS = [
    ("reading", [
        ("precision", "precision_at_5_{reading}", "share", "value"), ("ceiling", "human_ceiling_at_5", "share", "value"),
        ("differences", "precision_at_5_{reading}_difference", "share", "value"),
    ]),
    ("measure", [("agreement", "{measure}_at_5", "share", "value")]),
    ("rating", [
        ("ratings", "{rating}_{statistic}", "scale points", "value"),
        ("same_cues", "{rating}_{statistic}_human_same_cues", "scale points", "human"),
        ("ratings", "{rating}_coverage", "share", "exact"), ("ratings", "{rating}_coverage", "share", "lemma"),
    ]),
    ("rating", [
        ("rating_gaps", "{rating}_difference", "scale points", "value"),
        ("rating_gaps", "{rating}_median_difference", "scale points", "median"),
    ]),
    ("all", [("level", "human_level_difference", "scale points", "value")]), ("all", [("level", "human_level_p", None, "p")]),
    ("measure", [("panels", "participants_{measure}", "share", "value")]),
    ("measure", [("panel_gaps", "participants_{measure}_difference", "share", "value")]),
    ("reading", [("drawn", "drawn_precision_at_5_{reading}", "share", "value")]),
    ("reading", [("drawn_gaps", "drawn_precision_at_5_{reading}_difference", "share", "value")]),
]  # fmt: skip


def list_metrics(cfg: Config, tables: dict[str, pd.DataFrame]) -> list[dict]:
    """Metric records of the notebook's tables.

    Parameters
    ----------
    tables : dict
        `precision` (of `summarise_precision` and `summarise_ceiling`, K = 5), `differences` (`compare_stages`), `agreement`; `ratings,
        rating_gaps, level` (`ratings.summarise_ratings`, `compare_ratings`, `judge_human_level`); `panels, panel_gaps, drawn, drawn_gaps`
        (`sampled.summarise_panels`, `summarise_drawn`).

    Returns
    -------
    list of dict
        Fields of `store.page.METRIC_FIELDS`; a comparison is the `method`, people's records have stage `human`.
    """
    # The models on the cues that people answered stand in the table alone, beside people's own row.
    shown = tables["precision"].query("subset != 'answered' or stage == 'human'")
    people, rated, level = (shown["stage"] == "human"), tables["ratings"], tables["level"]
    rated = rated[rated["statistic"] == rated["rating"].map(STATISTICS).fillna("mean")]
    tables = tables | {
        "precision": shown[~people], "ceiling": shown[people].assign(method=lambda part: part["reading"], subset="all"),
        "ratings": rated, "same_cues": rated[rated["stage"] != "human"], "level": level.assign(all="", method=level["rating"]),
        **{name: tables[name].assign(decoding="sampled") for name in ("panels", "panel_gaps", "drawn", "drawn_gaps")},
    }  # fmt: skip
    records = []
    for by, entries in RECORDS:
        for key in tables[entries[0][0]][by].unique():
            for table, name, unit, value in entries:
                part = tables[table][tables[table][by] == key].rename(columns={"comparison": "method"})
                if part.empty:
                    continue
                if value != "value":
                    part = part.drop(columns=["value", "low", "high"])
                if value in ("exact", "lemma"):
                    part = part.drop(columns="n").rename(columns={"cues": "n"}).assign(method=value)
                part = part.rename(columns={value: "value"})
                part = part.assign(language=[cfg.cultures[culture].language for culture in part["culture"]])
                records += list_records(part, name.format(**part.iloc[0]), unit=UNITS.get(key, unit))
    return records
