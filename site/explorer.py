"""The data of the cue explorer: every cue with people's words, models' words, which of these people said too, and ratings."""

from __future__ import annotations

import pandas as pd

from align_utils import config, lexical, norms

# Words of people that are shown; what a model says is looked up among all of theirs.
SHOWN = 12


def gather(cfg: config.Config) -> dict:
    """All that the explorer shows of a run; its models answered the held-out and the validation concepts.

    Returns
    -------
    dict
        `cultures` (code to `label, lang`), `stages` (pairs of key and name, in order), `scales` (rating to its two ends), `ratings` (culture
        to word to its values, in the order of `scales`), `first` (the concept to begin with) and `concepts`: `name, split, cues, people,
        models`, whose words are `[word, people who said it, gloss]`.

    Raises
    ------
    MissingInput
        Notebook 01 or 04 has not run.
    """
    people, splits = norms.load_run(cfg), norms.load_splits(cfg)
    given = pd.concat([lexical.lists.read_lists(cfg, ending=ending) for ending in ("", "_valid")])
    given = given[given["seed"] == cfg.profile.seed]
    answers = {cell: list(zip(part["model"], part["stage"], part["responses"], strict=True)) for cell, part in given.groupby(["culture", "cue"])}  # fmt: skip
    glosses, scales = norms.words.load_glosses(cfg), lexical.ratings.load_scales(cfg)[0]
    words: dict[str, set[str]] = {culture: set() for culture in people}
    found = {}
    for culture, own in people.items():
        language = cfg.language_of(culture)
        gloss = glosses.get(language.name, {})
        for cue, part in own.norms.sort_values("rank").groupby("cue", sort=False):
            said = {language.normalise(word): int(count) for word, count in zip(part["response"], part["count"], strict=True)}
            lists = {"": list(part["response"])[:SHOWN]} | {f"{model}|{stage}": list(own) for model, stage, own in answers.get((culture, cue), [])}  # fmt: skip
            words[culture].update(*lists.values())
            spelt = {
                key: [[word, said.get(language.normalise(word), 0), gloss.get(language.normalise(word), "")] for word in own]
                for key, own in lists.items()
            }
            found[culture, cue] = {"n": int(part["n"].max()), "words": spelt.pop("")}, spelt

    columns = {culture: f"cue_{part.language}" for culture, part in cfg.cultures.items()}
    concepts = []
    for row in splits.to_dict("records"):
        cues = {culture: row[column] for culture, column in columns.items()}
        concepts.append((row.get("cue_en", next(iter(cues.values()))), row["split"], cues))
    paired = {cell for _, _, cues in concepts for cell in cues.items()}
    concepts += [(cue, "train", {culture: cue}) for culture, cue in found if (culture, cue) not in paired]
    named, stages = len(cfg.models) > 1, [stage for stage in config.list_stages(cfg) if stage in set(given["stage"])]
    return {
        "cultures": {name: {"label": part.label, "lang": part.language} for name, part in cfg.cultures.items()},
        "stages": [
            (f"{model}|{stage}", f"{model}, {cfg.names[stage]}" if named else cfg.names[stage]) for model in cfg.models for stage in stages
        ],
        "scales": {name: ends for name, ends in _list_ends(cfg).items() if any(name in own for own in scales.values())},
        "ratings": {culture: _rate(words[culture], scales, cfg, culture) for culture in people},
        "first": next(iter(cfg.profile.show.concepts), ""),
        "concepts": [
            {
                "name": name, "split": split, "cues": cues,
                "people": {culture: found[culture, cue][0] for culture, cue in cues.items() if (culture, cue) in found},
                "models": {culture: found[culture, cue][1] for culture, cue in cues.items() if (culture, cue) in found},
            }
            for name, split, cues in sorted(concepts, key=lambda concept: concept[0].casefold())
        ],
    }  # fmt: skip


def _list_ends(cfg: config.Config) -> dict[str, tuple[float, float]]:
    return {name: (rating.low, rating.high) for part in cfg.languages.values() for name, rating in part.ratings.items()}


def _rate(words: set[str], scales: lexical.ratings.Scales, cfg: config.Config, culture: str) -> dict[str, list[float | None]]:
    language = cfg.language_of(culture)
    spelt = {word: language.normalise(word) for word in sorted(words)}
    columns = {
        name: lexical.ratings.match_words(spelt.values(), scales[culture][name], language)["value"] if name in scales[culture] else pd.Series()
        for name in _list_ends(cfg) if any(name in own for own in scales.values())
    }  # fmt: skip
    rated = pd.DataFrame(
        {name: column.reindex(list(spelt.values())).to_numpy() for name, column in columns.items()}, index=list(spelt)
    )
    kept = rated.round(2).dropna(how="all").astype(object)
    return {word: list(row) for word, row in zip(kept.index, kept.where(kept.notna(), None).to_numpy(), strict=True)}
