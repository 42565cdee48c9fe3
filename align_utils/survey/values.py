"""What the answers say about values, computed once for the notebook and its appendix."""

from dataclasses import dataclass

import pandas as pd

from align_utils.config.profiles import Config
from align_utils.survey.aligned import count_aligned, judge_items
from align_utils.survey.answers import CHOSEN, average_orders, load_answers, pick_seed
from align_utils.survey.distances import Pair, add_references, measure_distances, pick_pair, rank_items
from align_utils.survey.human import Human, draw_choice, draw_halves, read_human
from align_utils.survey.items import choose_items
from align_utils.survey.shifts import compare_controls, measure_shifts, summarise_shifts
from align_utils.survey.slopes import measure_slopes
from align_utils.survey.verdicts import judge_verdicts


@dataclass(frozen=True)
class Values:
    """The run's answers beside people's. Those without an order, in `items`, `halves`, `answers` and `everyone`, the map alone uses."""

    items: pd.DataFrame  # `items.choose_items`
    people: Human  # of the items with an order
    halves: pd.DataFrame  # `human.draw_halves`
    answers: pd.DataFrame  # ANSWERS
    everyone: pd.DataFrame  # averaged answers and references (`distances.add_references`)
    shifts: pd.DataFrame  # `shifts.measure_shifts`
    overall: pd.DataFrame  # `shifts.summarise_shifts`
    against: pd.DataFrame  # `shifts.compare_controls`
    slopes: pd.DataFrame  # `slopes.measure_slopes`
    verdicts: pd.DataFrame  # `verdicts.judge_verdicts`
    pair: Pair  # the two cultures that are compared
    ranked: pd.DataFrame  # `distances.rank_items`, with `rank, text_en, topic` and `kept`, how often an item is chosen again
    draws: pd.DataFrame  # `human.draw_choice`
    judged: pd.DataFrame  # `aligned.judge_items`
    counts: pd.DataFrame  # `aligned.count_aligned`

    @property
    def human(self) -> pd.DataFrame:
        """SHARES of the items with an order."""
        return self.people.shares


def load_values(cfg: Config, *, readout: str = CHOSEN) -> Values:
    """Read the answers that 05 stored, by the chosen reading or (with what A5 stored, of the first training alone) by label, and the human
    side, and measure distances, shifts and counts (MissingInput where 05 has not run)."""
    items = choose_items(cfg, nominal=True)
    ordered = items[items["kind"] == "ordered"]
    answers = load_answers(cfg, readout=readout, nominal=True, numbers=readout == "label")
    answers = pick_seed(cfg.profile.seed, answers) if readout == "label" else answers
    everybody, averaged = read_human(cfg, items), average_orders(answers)
    people, halves = everybody.take(ordered), draw_halves(cfg, everybody)
    everyone = add_references(averaged, everybody.shares, halves)
    distances = measure_distances(everyone, people.shares, halves)
    shifts = measure_shifts(cfg, distances, items)
    overall, against = summarise_shifts(shifts, **cfg.bootstrap), compare_controls(shifts, **cfg.bootstrap)
    slopes = measure_slopes(cfg, averaged, people.shares, ordered)
    pair = pick_pair(cfg.cultures)
    draws = draw_choice(cfg, people, pair)
    ranked = rank_items(people.shares, pair, wanted=cfg.profile.survey.high_tension)
    ranked = ranked.assign(rank=ranked.index + 1, kept=ranked["question"].map(draws.mean()))
    ranked = ranked.merge(items[["question", "topic", "text_en"]], how="left")
    judged = judge_items(distances, everyone, people.shares, ranked, pair)
    return Values(
        items=items, people=people, halves=halves, answers=answers, everyone=everyone, shifts=shifts, overall=overall, against=against,
        slopes=slopes, verdicts=judge_verdicts(overall, against, slopes), pair=pair, ranked=ranked, draws=draws, judged=judged,
        counts=count_aligned(judged, **cfg.bootstrap),
    )  # fmt: skip
