"""Word lists for reading: what people, and models beside them, answer to the concepts that run through all notebooks."""

import pandas as pd

from align_utils.config.profiles import Config
from align_utils.norms.split import CultureNorms, load_splits
from align_utils.stats import summarise
from align_utils.store.page import Sentence, list_records, pick_record
from align_utils.store.tables import write_interval
from align_utils.store.textfiles import read_table


def pick_concepts(cfg: Config, *, size: int = 4) -> pd.DataFrame:
    """The concepts that every notebook shows: test concepts, those that the profile prefers (`show.concepts`) first.

    At most `size` rows: `concept` (its English name, else the first language's) and a column of cues for each culture of the
    run.
    """
    splits = load_splits(cfg)
    names = {culture: splits[f"cue_{part.language}"] for culture, part in cfg.cultures.items()}
    concept = splits["cue_en"] if "cue_en" in splits else next(iter(names.values()))
    table = pd.DataFrame({"concept": concept, **names})[splits["split"] == "test"]
    order = {name: place for place, name in enumerate(cfg.profile.show.concepts)}
    table = table.sort_values("concept").sort_values("concept", key=lambda names: names.map(order), kind="stable")
    return table.head(size).reset_index(drop=True)


def list_words(
    cfg: Config, people: dict[str, CultureNorms], concepts: pd.DataFrame, answers: pd.DataFrame | None = None, *, size: int = 5
) -> pd.DataFrame:
    """The first words of people, and of models beside them, for a few concepts; the words that people said too in **bold**.

    `concepts` are from `pick_concepts`, `answers` hold `culture, stage, cue, responses` (a list of str, the first answer first)
    of models, `size` is the number of words a list. Returns `concept, culture, cue, stage` (`human` first), `value` (the words
    in order, with an English gloss where `data/glosses.csv` or the concept pairs have one) and `hits` (how many of them at
    least one person said).
    """
    glosses, rows = load_glosses(cfg), []
    for concept in concepts.to_dict("records"):
        for culture, own in people.items():
            language, cue = cfg.language_of(culture), concept[culture]
            told = own.norms[own.norms["cue"] == cue].sort_values("rank")["response"]
            said, known = set(told.map(language.normalise)), glosses.get(language.name, {})
            lists = [("human", told.tolist())]
            if answers is not None:
                mine = answers[(answers["culture"] == culture) & (answers["cue"] == cue)]
                lists += zip(mine["stage"], mine["responses"], strict=True)
            for stage, words in lists:
                shown = [(word, language.normalise(word)) for word in words[:size]]
                # People's own words are all said by people: bold would tell nothing.
                bold = {form: "**" if form in said and stage != "human" else "" for _, form in shown}
                text = ", ".join(f"{bold[form]}{word}{bold[form]} {known.get(form, '')}".strip() for word, form in shown)
                rows.append([concept["concept"], culture, cue, stage, text, sum(form in said for _, form in shown)])
    return pd.DataFrame(rows, columns=["concept", "culture", "cue", "stage", "value", "hits"])


def load_glosses(cfg: Config) -> dict[str, dict[str, str]]:
    """Language to its words (normalised) to a gloss in English: `data/pairs.csv`, and `data/glosses.csv` where that says more."""
    found: dict[str, dict[str, str]] = {}
    for file, english, form in (("pairs.csv", "cue_en", "cue_{}"), ("glosses.csv", "en", "{}")):
        frame = read_table(
            cfg.root / "data" / file, [english], optional=[form.format(name) for name in cfg.languages if name != "en"]
        )
        for name, language in cfg.languages.items():
            if form.format(name) in frame and name != "en":
                pairs = zip(frame[form.format(name)].map(language.normalise), frame[english], strict=True)
                found.setdefault(name, {}).update(pairs)
    return found


def record_strongest(people: dict[str, CultureNorms], **bootstrap) -> list[dict]:
    """Records of `strongest_response`: the mean strength of a cue's commonest response, per culture, with its interval over cues."""
    top = pd.concat([own.norms[own.norms["rank"] == 1].assign(culture=name) for name, own in people.items()])
    return list_records(summarise(top, ["culture"], "strength", unit="cue", **bootstrap), "strongest_response", unit="share")


def state_concentration(records: list[dict], cfg: Config) -> Sentence:
    """How much of what people say to a cue its strongest response is, from `strongest_response` records."""
    own = [pick_record(records, "strongest_response", culture=culture) for culture in cfg.cultures]
    text = f"A cue's commonest response is {_list_shares(own, cfg)} of all that people say to it; the rest spreads over many words."
    return Sentence("concentration", text, own)


def state_overlap(records: list[dict], cfg: Config) -> Sentence:
    """How much two cultures' associations share at least, beside wrong partners, from `overlap_linked` records."""
    true, wrong = (pick_record(records, "overlap_linked", method=f"{partner} concept") for partner in ("same", "any"))
    covered = pick_record(records, "overlap_covered", method="same concept")
    if true is None or not true["value"]:
        return Sentence(
            "overlap", "None of the responses can be linked across the two languages, so their overlap is not measured.", []
        )
    beside = "against" if true["low"] > wrong["high"] else "which is not shown to be more than"
    text = (
        f"At least {write_interval(true, '.3f')} of what people say to a concept is shared between the two cultures, {beside} "
        f"{write_interval(wrong, '.3f')} for two different concepts. A lower bound: only {100 * covered['value']:.0f} % of the responses could be linked."
    )
    return Sentence("overlap", text, [true, wrong, covered])


def state_leakage(records: list[dict], cfg: Config) -> Sentence:
    """How many of the held-out pairs stand reversed in the training norms, from `leakage` records."""
    method = "top-5 test pairs reversed in training"
    own = [pick_record(records, "leakage", culture=culture, method=method) for culture in cfg.cultures]
    text = (
        f"No concept is in two splits, in any language. For {_list_shares(own, cfg)} of the five strongest answers to held-out cues, training "
        "holds the reverse pair (*eggs*, then *breakfast*). 04 scores the models without those cues too."
    )
    return Sentence("leakage", text, own)


def _list_shares(records: list[dict], cfg: Config) -> str:
    return " and ".join(f"{100 * record['value']:.0f} % ({cfg.names[record['culture']]})" for record in records)
