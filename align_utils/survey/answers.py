"""Answers of the models: their table, loaded and averaged over orders; read-outs compared; what an answerer prefers whatever stands there."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pandera.pandas as pa

from align_utils.config.profiles import Config
from align_utils.stats import summarise
from align_utils.store.steps import read_frame
from align_utils.survey.items import Question, list_nominal

# Who answers: the model, the culture of its adapter's norms ('none'), the stage of training, the language and the persona asked in.
ANSWERER = ["model", "adapter", "stage", "language", "persona"]
_SHARE = pa.Check.in_range(0, 1.01)  # sums of 16-bit probabilities may pass one by their rounding
# One row an answer option of a question in one order.
ANSWERS = pa.DataFrameSchema({
    **{name: pa.Column(str) for name in ANSWERER},
    "seed": pa.Column(int),  # of the training; the untuned model has the profile's
    "readout": pa.Column(str),  # 'label', or 'text' or 'unlisted' with one of ask.TEXT_READINGS: 'text_sum'
    "question": pa.Column(str),
    "order": pa.Column(int, pa.Check.ge(0)),
    "place": pa.Column(int, pa.Check.ge(1)),
    "code": pa.Column(int),
    "probability": pa.Column(float, _SHARE),  # of the option mass
    "option_mass": pa.Column(float, _SHARE),
    "refusal_mass": pa.Column(float, _SHARE, nullable=True),  # of the question's first order; with the label alone
})  # fmt: skip
_LEAST = 1e-12
# The reading by which a model's answers in a language count.
CHOSEN = "chosen"
# What readings are called in whatever is shown.
READINGS = {
    "label": "the option's number", "sum": "the option's words", "tokens": "its words, by token", "characters": "its words, by character",
    "pmi": "its words, less how likely they are unasked",
}  # fmt: skip


def tabulate_answers(
    asked: Sequence[Question], scores: Sequence[np.ndarray], masses: Sequence[float] | None = None
) -> pd.DataFrame:
    """One row an answer option: `language, persona, question, order, place, code, probability, option_mass` (default the scores' sum).

    Where no option has any mass the question tells nothing: it gets even shares, so that the other orders stay balanced when they
    are averaged with it, and is known by its `option_mass` of 0.
    """
    rows, seen = [], {}
    for q, score, mass in zip(asked, scores, masses or [score.sum() for score in scores], strict=True):
        number = seen[q.group] = seen.get(q.group, -1) + 1
        total = score.sum()
        shares = score / total if total != 0 else np.full(len(score), 1 / len(score))
        rows += [
            {"language": q.language, "persona": q.persona, "question": q.question, "order": number, "place": place + 1,
             "code": q.codes[index], "probability": shares[place], "option_mass": mass}
            for place, index in enumerate(q.order)
        ]  # fmt: skip
    return pd.DataFrame(rows)


def find_readings(cfg: Config, model: str) -> Path:
    """Where it stands by which reading a model's answers count (`slopes.compare_readings`)."""
    return cfg.runs / "survey" / f"{model}_readings.csv"


def load_readings(cfg: Config, model: str) -> pd.DataFrame:
    """That table of one model (MissingInput where the untuned model was not asked)."""
    return read_frame(find_readings(cfg, model), made_by="05_wvs_survey")


def load_answers(cfg: Config, *, readout: str | None = CHOSEN, nominal: bool = False, numbers: bool = False) -> pd.DataFrame:
    """All answers of the run (ANSWERS) by the reading that was chosen for a model and language, by one read-out, or by all (None).

    A question that the chosen reading leaves out, as its options are numerals, is read by label; so are baselines. With `nominal` also
    answers to items without an order, which the map alone may use; with `numbers` also the adapters' by number to what they are else asked
    by words (`ask.ask_numbers`).
    """
    frames = [read_frame(path, made_by="05_wvs_survey") for path in list_files(cfg)]
    more = [cfg.runs / "survey" / f"{model}_numbers.parquet" for model in cfg.models] if numbers else []
    frame = pd.concat([*frames, *(read_frame(path, made_by="A5_wvs_survey") for path in more)], ignore_index=True)
    ANSWERS.validate(frame)
    if readout == CHOSEN:
        frame = pick_reading(frame, pd.concat([load_readings(cfg, model) for model in cfg.models]))
    elif readout is not None:
        frame = frame[frame["readout"] == readout]
    if not nominal:
        frame = frame[~frame["question"].isin(list_nominal(cfg))]
    return frame.reset_index(drop=True)


def name_reading(readout: str) -> str:
    """A reading in words.

    >>> name_reading("label"), name_reading("unlisted_tokens"), name_reading("text_sum")
    ("the option's number", 'its words, by token', "the option's words, after a list")
    """
    form, _, kind = readout.partition("_")
    return READINGS[kind or form] + (", after a list" if form == "text" else "")


def pick_reading(answers: pd.DataFrame, readings: pd.DataFrame) -> pd.DataFrame:
    """ANSWERS of one reading a model, language and question: the chosen one, or the label's where that has no answer of the untuned model."""
    cell = ["model", "language"]
    chosen = readings.loc[readings["chosen"], [*cell, "readout"]].rename(columns={"readout": CHOSEN})
    frame = answers.merge(chosen, on=cell, how="left").fillna({CHOSEN: "label"})
    is_own = frame["readout"] == frame[CHOSEN]
    untuned = is_own & (frame["stage"] == "zero_shot")
    known = untuned.groupby([frame[key] for key in (*cell, "question")]).transform("any")
    return answers[(is_own | (~known & (frame["readout"] == "label"))).to_numpy()]


def load_generated(cfg: Config) -> pd.DataFrame | None:
    """Parsed greedy answers of all models (`ask.generate_answers`), of the profile's own seed; None where it does not ask for them."""
    if "generated" not in cfg.profile.survey.readouts:
        return None
    paths = [cfg.runs / "survey" / f"{model}_generated.parquet" for model in cfg.models]
    return pick_seed(
        cfg.profile.seed, pd.concat([read_frame(path, made_by="05_wvs_survey") for path in paths], ignore_index=True)
    )


def pick_seed(seed: int, frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of the profile's own seed, the untuned model's among them."""
    return frame[frame["seed"] == seed].reset_index(drop=True)


def list_files(cfg: Config) -> list[Path]:
    """Files of the run's answers: a file a model, and one for each baseline that was asked."""
    paths = {name: cfg.runs / "survey" / f"{name}.parquet" for name in (*cfg.models, *cfg.baselines)}
    return [path for name, path in paths.items() if name in cfg.models or path.is_file()]


def average_orders(answers: pd.DataFrame, *, pair_only: bool = False) -> pd.DataFrame:
    """ANSWERER, `seed, question, code, share`: answers averaged over option orders, with `pair_only` over the ascending
    and the descending one alone (the first and the last of `prompts.list_orders`)."""
    order = answers["order"]
    pair = (order == 0) | (order == answers.groupby("question")["order"].transform("max"))
    answers = answers[pair] if pair_only else drop_extra_order(answers)
    shares = answers.groupby([*ANSWERER, "seed", "question", "code"], sort=False)["probability"].mean()
    return shares.rename("share").reset_index()


def drop_extra_order(answers: pd.DataFrame) -> pd.DataFrame:
    """The orders in which every option stands in every place equally often: all rotations, or both directions.

    `prompts.list_orders` adds the descending order to the rotations for the pair reading; averaged with them it would put the
    last option first too often. It is known by its number: only so there is one order more than options.
    """
    by = answers.groupby("question")
    places, orders = by["place"].transform("max"), by["order"].transform("max") + 1
    return answers[(answers["order"] < places) | (orders != places + 1)]


def tabulate_means(cfg: Config, averaged: pd.DataFrame, human: pd.DataFrame) -> pd.DataFrame:
    """Mean answers for the heatmap: items down, people and answerers across, 0 = first point of the scale, 1 = last."""
    names = averaged["adapter"].where(averaged["adapter"] != "none", "untuned")
    told = zip(averaged["model"], names, averaged["stage"], averaged["language"], strict=True)
    labels = [f"{cfg.label(model, name)} {stage} {language}" for model, name, stage, language in told]
    labels = [label.replace("untuned zero_shot", "untuned") for label in labels]
    both = pd.concat([human.assign(answerer="people " + human["culture"]), averaged.assign(answerer=labels)])
    points = human.drop_duplicates(["question", "code"])[["question", "code"]]
    by = points.groupby("question", sort=False)["code"]
    points["position"] = by.cumcount() / (by.transform("size") - 1)
    both = both.merge(points, on=["question", "code"])
    both["mean"] = both["position"] * both["share"]
    wide = both.groupby(["question", "answerer"], sort=False)["mean"].sum().unstack("answerer")
    return wide.reindex(index=points["question"].unique(), columns=both["answerer"].unique())


def describe_readouts(answers: pd.DataFrame) -> pd.DataFrame:
    """How well every answerer answers, a row a read-out; of several seeds the mean.

    `readout`, ANSWERER, `option mass` (mean probability on the options, in [0, 1]), `first place` and `last place` (mean share
    minus 1/k: 0 = no liking), `entropy` (of the averaged answers, 1 = uniform), `empty` (how often no option had any mass: such
    count as even answers), `n` (questions), `refusal mass` (mean probability over the sampled items of the listed refusals
    after the open lead, in [0, 1]; with the label alone).
    """
    by = ["readout", *ANSWERER]
    refusals = answers.drop_duplicates([*by, "seed", "question"]).groupby(by)["refusal_mass"].mean()
    rows = []
    for readout, every in answers.groupby("readout", sort=False):
        for key, part in count_options(drop_extra_order(every)).groupby(ANSWERER, sort=False):
            excess, first = part["probability"] - 1 / part["options"], part.drop_duplicates(["seed", "question", "order"])
            shares = average_orders(part).groupby(["seed", "question"])["share"]
            entropy = shares.apply(lambda p: float(-(p * np.log(p.clip(lower=_LEAST))).sum() / np.log(len(p))))
            rows.append({"readout": readout} | dict(zip(ANSWERER, key, strict=True)) | {
                "option mass": first["option_mass"].mean(), "first place": excess[part["place"] == 1].mean(),
                "last place": excess[part["place"] == part["options"]].mean(), "entropy": entropy.mean(),
                "empty": int(np.ceil((first["option_mass"] == 0).sum() / part["seed"].nunique())), "n": part["question"].nunique(),
                "refusal mass": refusals[readout, *key],
            })  # fmt: skip
    return pd.DataFrame(rows)


def measure_order_bias(answers: pd.DataFrame, **bootstrap) -> pd.DataFrame:
    """How far an answer in one order lies from the mean over all orders: total variation distance, in [0, 1].

    `answers` are ANSWERS of one read-out. Returns `model, culture` (of the adapter), `stage, language, persona, value, low, high, n`, a mean over
    orders and questions with its interval over questions.
    """
    full = drop_extra_order(answers).rename(columns={"adapter": "culture"})
    keys = ["model", "culture", "stage", "language", "persona"]
    by = [*keys, "seed", "question"]
    mean = full.groupby([*by, "code"], sort=False)["probability"].transform("mean")
    full["distance"] = (full["probability"] - mean).abs() / 2
    orders = full.groupby([*by, "order"], sort=False)["distance"].sum()
    distances = orders.groupby(by, sort=False).mean().reset_index()
    return summarise(distances, keys, "distance", unit="question", run="seed", **bootstrap)


def compare_readouts(answers: pd.DataFrame, generated: pd.DataFrame | None = None) -> pd.DataFrame:
    """Agreement of every read-out with the label's, over the questions that both answer.

    `answers` are ANSWERS of all read-outs; `generated` (`load_generated`) is compared with the label's first order alone, in which it was
    asked. Returns ANSWERER, `readout, same mode` (share of the questions whose most probable option is the same), `distance` (mean
    total variation, in [0, 1]), `parsed` (share of generated texts that name an option), `chance` (mean of 1/k), `n`.
    """
    shares = {key: average_orders(part) for key, part in answers.groupby("readout", sort=False)}
    label = shares.pop("label").rename(columns={"share": "label"})
    keys = [*ANSWERER, "question", "code"]
    parts = [compare_shares(label.merge(other, on=keys)).assign(readout=key) for key, other in shares.items()]
    if generated is not None:
        named = generated[generated["place"] > 0][[*ANSWERER, "question", "place"]].rename(columns={"place": "named"})
        first = answers[(answers["readout"] == "label") & (answers["order"] == 0)]
        both = first.rename(columns={"probability": "label"}).merge(named, on=[*ANSWERER, "question"])
        both["share"] = (both["place"] == both["named"]).astype(float)
        parsed = (generated["place"] > 0).groupby([generated[key] for key in ANSWERER], sort=False).mean()
        table = parsed.rename("parsed").reset_index().merge(compare_shares(both), on=ANSWERER, how="left")
        parts.append(table.assign(readout="generated", n=table["n"].fillna(0).astype(int)))
    columns = [*ANSWERER, "readout", "same mode", "distance", "parsed", "chance", "n"]
    return pd.concat([pd.DataFrame(columns=columns), *parts], ignore_index=True)[columns]


def compare_shares(both: pd.DataFrame) -> pd.DataFrame:
    """ANSWERER, `same mode, distance, chance, n` of two distributions, `label` and `share`, over the options of the same questions."""
    keys = [*ANSWERER, "question"]
    by = both.groupby(keys, sort=False)
    top = both[both["label"] == by["label"].transform("max")]
    table = pd.DataFrame({
        "same mode": top.groupby(keys, sort=False)["share"].max() == by["share"].max(),
        "distance": (both["label"] - both["share"]).abs().groupby([both[key] for key in keys], sort=False).sum() / 2,
        "chance": 1 / by.size(),
    })  # fmt: skip
    of = table.groupby(ANSWERER, sort=False)
    return of.mean().assign(n=of.size()).reset_index()


# PriDe: what an answerer prefers whatever stands there, estimated and divided out (Zheng et al. 2024, Large Language Models Are Not
# Robust Multiple Choice Selectors, ICLR, section 4).


def estimate_prior(answers: pd.DataFrame) -> pd.DataFrame:
    """Prior of the places: ANSWERER, `options` (k), `place` (1..k), `prior` (sums to 1 over places), `items` (questions it rests on).

    Per question, the softmax over places of the mean logarithm over the rotations of the options, in which each option's own appeal
    is the same at every place; then the mean over the questions with as many options. Of ten-point scales, shown in both
    directions alone, the content cancels only as far as the two ends are liked alike.
    """
    full = count_options(drop_extra_order(answers))
    full["log"] = np.log(full["probability"].clip(lower=_LEAST))
    keys = [*ANSWERER, "options", "question"]
    mean = full.groupby([*keys, "place"], sort=False)["log"].mean().reset_index()
    mean["prior"] = np.exp(mean["log"] - mean.groupby(keys)["log"].transform("max"))
    mean["prior"] /= mean.groupby(keys)["prior"].transform("sum")
    places = mean.groupby([*ANSWERER, "options", "place"], sort=False)
    return places.agg(prior=("prior", "mean"), items=("question", "nunique")).reset_index()


def divide_prior(answers: pd.DataFrame, prior: pd.DataFrame) -> pd.DataFrame:
    """The answers with the prior of their places divided out of `probability`; a ValueError where a number of options has no prior."""
    by = [*ANSWERER, "options", "place"]
    joined = count_options(answers).merge(prior.drop(columns="items"), on=by, how="left")
    if joined["prior"].isna().any():
        missing = sorted(set(joined.loc[joined["prior"].isna(), "options"].tolist()))
        raise ValueError(f"no place prior for questions of {missing} options: estimate it on a share of them too")
    joined["probability"] = joined["probability"].clip(lower=_LEAST) / joined["prior"]
    joined["probability"] /= joined.groupby([*ANSWERER, "question", "order"])["probability"].transform("sum")
    return joined.drop(columns=["options", "prior"])


def compare_debiasing(answers: pd.DataFrame, *, share: float, seed: int) -> pd.DataFrame:
    """Position bias of every answerer before and after PriDe, on the items that did not give the prior.

    A `share` of the items of one read-out, drawn per number of options and rounded up, gives the prior; Zheng et al. use 0.05 of far
    longer tests. Returns ANSWERER; `spread, spread PriDe`: standard deviation over the places of their mean share over all orders, times the
    number of options (0 = no liking); `first order to average, PriDe to average`: mean total variation distance between the answer in
    the first order and the average over the orders, in [0, 1]; `n` (questions); `same mode`: share of them in which PriDe in the first
    order and the average have the same most probable option.
    """
    rng = np.random.default_rng(seed)
    sizes = answers.groupby("question")["place"].max()
    picked = [
        rng.choice(part.index.to_numpy(), size=int(np.ceil(share * len(part))), replace=False)
        for _, part in sizes.groupby(sizes)
    ]
    chosen = answers["question"].isin(np.concatenate(picked))
    rest = drop_extra_order(answers[~chosen])
    average = average_orders(rest).rename(columns={"share": "label"})

    def judge(frame: pd.DataFrame) -> pd.DataFrame:
        first = frame[frame["order"] == 0].rename(columns={"probability": "share"})
        both = average.merge(first[[*ANSWERER, "question", "code", "share"]], on=[*ANSWERER, "question", "code"])
        return compare_shares(both).set_index(ANSWERER).assign(spread=_spread(frame))

    plain, divided = judge(rest), judge(divide_prior(rest, estimate_prior(answers[chosen])))
    return pd.DataFrame({
        "spread": plain["spread"], "spread PriDe": divided["spread"],
        "first order to average": plain["distance"], "PriDe to average": divided["distance"],
        "n": plain["n"], "same mode": divided["same mode"],
    }).reset_index()  # fmt: skip


def _spread(answers: pd.DataFrame) -> pd.Series:
    """Standard deviation of the places' mean shares; each number of options weighs as many questions as it has."""
    keys = [*ANSWERER, "options"]
    by = count_options(answers).groupby([*keys, "place"], sort=False)
    means = by.agg(share=("probability", "mean"), count=("question", "nunique")).groupby(keys, sort=False)
    table = pd.DataFrame({"spread": means["share"].std(ddof=0), "count": means["count"].first()}).reset_index()
    table["product"] = table["spread"] * table["options"] * table["count"]
    sums = table.groupby(ANSWERER, sort=False)[["product", "count"]].sum()
    return sums["product"] / sums["count"]


def count_options(answers: pd.DataFrame) -> pd.DataFrame:
    """`options`: how many a question has."""
    return answers.assign(options=answers.groupby("question")["place"].transform("max"))
