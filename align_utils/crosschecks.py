"""What notebook 05 says of the read-outs: how much each catches, how far they agree, and what becomes of the position bias."""

from __future__ import annotations

import pandas as pd

from align_utils import debias
from align_utils.answers import average_orders, describe_answers, pick_seed, read_answers
from align_utils.config import Config
from align_utils.debias import ANSWERER


def load_generated(cfg: Config) -> pd.DataFrame | None:
    """Parsed greedy answers of all models (`survey.write_answers`), of the profile's own seed; None where it does not ask for them."""
    if "generated" not in cfg.profile.survey.readouts:
        return None
    paths = [cfg.runs / "survey" / f"{model}_generated.parquet" for model in cfg.models]
    return pick_seed(cfg, pd.concat([read_answers(cfg, path) for path in paths], ignore_index=True))


def describe_readouts(answers: pd.DataFrame) -> pd.DataFrame:
    """Option mass, refusal mass, place prior and entropy of every answerer, a row a read-out.

    Returns
    -------
    DataFrame
        `readout`, the columns of `answers.describe_answers`, `refusal mass` (mean probability over the sampled items of the listed refusals after the
        open lead, in [0, 1]; with the label alone).
    """
    rows = []
    for readout, part in answers.groupby("readout", sort=False):
        refusal = part.drop_duplicates([*ANSWERER, "question"]).groupby(ANSWERER, sort=False)["refusal_mass"].mean()
        table = describe_answers(part).merge(refusal.rename("refusal mass").reset_index(), on=ANSWERER)
        table.insert(0, "readout", readout)
        rows.append(table)
    return pd.concat(rows, ignore_index=True)


def compare_readouts(answers: pd.DataFrame, generated: pd.DataFrame | None = None) -> pd.DataFrame:
    """Agreement of every read-out with the label's, over the questions that both answer.

    Parameters
    ----------
    answers : DataFrame
        Of all read-outs (`answers.load_answers` with `readout=None`).
    generated : DataFrame, optional
        As `survey.write_answers`; compared with the label's first order alone, in which it was asked.

    Returns
    -------
    DataFrame
        The answerer's columns, `readout, same mode` (share of the questions whose most probable option is the same), `distance`
        (mean total variation, in [0, 1]), `parsed` (share of generated texts that name an option), `chance` (mean of 1/k), `n`.
    """
    shares = {key: average_orders(part) for key, part in answers.groupby("readout", sort=False)}
    label = shares.pop("label").rename(columns={"share": "label"})
    parts = [
        _compare(label.merge(other, on=[*ANSWERER, "question", "code"])).assign(readout=key) for key, other in shares.items()
    ]
    if generated is not None:
        named = generated[generated["place"] > 0][[*ANSWERER, "question", "place"]].rename(columns={"place": "named"})
        first = answers[(answers["readout"] == "label") & (answers["order"] == 0)]
        both = first.rename(columns={"probability": "label"}).merge(named, on=[*ANSWERER, "question"])
        both["share"] = (both["place"] == both["named"]).astype(float)
        parsed = (generated["place"] > 0).groupby([generated[key] for key in ANSWERER], sort=False).mean()
        table = parsed.rename("parsed").reset_index().merge(_compare(both), on=ANSWERER, how="left")
        parts.append(table.assign(readout="generated", n=table["n"].fillna(0).astype(int)))
    columns = [*ANSWERER, "readout", "same mode", "distance", "parsed", "chance", "n"]
    return (
        pd.concat([pd.DataFrame(columns=columns), *parts], ignore_index=True)[columns]
        if parts
        else pd.DataFrame(columns=columns)
    )


def _compare(both: pd.DataFrame) -> pd.DataFrame:
    keys = [*ANSWERER, "question"]
    by = both.groupby(keys, sort=False)
    top = both[both["label"] == by["label"].transform("max")]
    table = pd.DataFrame({
        "same mode": top.groupby(keys, sort=False)["share"].max() == by["share"].max(),
        "distance": (both["label"] - both["share"]).abs().groupby([both[key] for key in keys], sort=False).sum() / 2,
        "chance": 1 / by.size(),
    })  # fmt: skip
    mean = table.groupby(ANSWERER, sort=False).mean()
    return mean.assign(n=table.groupby(ANSWERER, sort=False).size()).reset_index()


def compare_debiasing(answers: pd.DataFrame, *, share: float, seed: int) -> pd.DataFrame:
    """Position bias before and after (`debias.measure_bias`), with how often PriDe and the order average have the same mode.

    Parameters
    ----------
    answers : DataFrame
        Of one read-out.
    share : float
        Share of the items that give PriDe's prior; the figures are of the others.
    """
    pride = debias.debias_pride(answers, share=share, seed=seed)
    pride = pride[~pride["estimated"]].drop(columns="estimated")
    average = average_orders(answers).rename(columns={"share": "label"})
    same = _compare(average.merge(pride, on=[*ANSWERER, "question", "code"]))[[*ANSWERER, "same mode"]]
    return debias.measure_bias(answers, share=share, seed=seed).merge(same, on=ANSWERER)
