"""The figures of the values analysis on made-up answers with controls: what is drawn are the frame's numbers."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text
from surveys import as_asked

from align_utils import plots
from align_utils.survey import aligned, panels, styles
from align_utils.survey import distances as survey_distances
from align_utils.survey import items as survey_items
from align_utils.survey import map as culture_map
from align_utils.survey.human import draw_halves, load_human

STATES = [("none", "zero_shot"), *[(c, s) for c in ("us", "cn") for s in ("sft", "ppo", "grpo", "control_shuffled")]]
MODEL = "some-model-with-a-long-name-7b"


@pytest.fixture(scope="module")
def made(cfg):
    plots.use_style()
    items = survey_items.choose_items(cfg)
    people = load_human(cfg, items)
    human = people.shares
    rng, rows = np.random.default_rng(0), []
    for adapter, stage in STATES:
        for language in ("en", "zh"):
            names = {"model": MODEL, "adapter": adapter, "stage": stage, "language": language, "persona": "none", "seed": 0}
            for item in items.itertuples():
                shares = rng.dirichlet(np.full(len(item.codes), 2.0))
                rows += [
                    {**names, "question": item.question, "code": c, "share": p} for c, p in zip(item.codes, shares, strict=True)
                ]
    averaged = pd.DataFrame(rows)
    halves = draw_halves(cfg, people)
    return items, human, halves, averaged, survey_distances.add_references(averaged, human, halves)


def read(figure):
    return " ".join(text.get_text() for text in figure.findobj(Text))


def test_items_are_drawn_with_people_and_models(cfg, made):
    items, human, _, averaged, _ = made
    ranked = survey_distances.rank_items(human, ("us", "cn"), wanted=20)["question"]
    chosen = [*ranked.head(5), "Q56"]
    frame = panels.list_panels(cfg, as_asked(averaged, model="tiny"), human, items, chosen, culture="cn")
    assert [panel.split()[0] for panel in frame["panel"].unique()] == chosen
    assert set(frame["answerer"]) == {"United States", "China", "zero_shot", "ppo"}
    assert frame.groupby(["panel", "answerer"])["share"].sum().to_numpy() == pytest.approx(1)
    figure = plots.plot_items(frame, title="Items")
    assert len(figure.axes) == 6
    assert all(word in read(figure) for word in ("people, China", "before tuning", "Never justifiable"))
    # Bars and lines carry the frame's numbers, in the order of the scale (Q56 is stored 1, 3, 2).
    axes = figure.axes[-1]
    drawn = {line.get_label(): line.get_ydata().tolist() for line in axes.lines}
    mine = averaged[(averaged["question"] == "Q56") & (averaged["language"] == "zh") & (averaged["adapter"] == "cn")]
    assert drawn["after PPO"] == mine[mine["stage"] == "ppo"].set_index("code")["share"].loc[[1, 3, 2]].tolist()


def test_counts_and_styles_stand_beside_even_answers(cfg, made):
    items, human, halves, _, everyone = made
    distances = survey_distances.measure_distances(everyone, human, halves)
    ranked = survey_distances.rank_items(human, ("us", "cn"), wanted=18)
    judged = aligned.judge_items(distances, everyone, human, ranked, ("us", "cn"))
    counts = aligned.count_aligned(judged, **cfg.bootstrap)
    nearer = counts[counts["reading"] == "nearer"]
    figure = plots.plot_counts(nearer, known={"paper": 0.26}, title="Counts")
    lines = {line.get_linestyle(): line.get_xdata()[0] for line in figure.axes[0].lines if len(set(line.get_xdata())) == 1}
    assert lines[":"] == nearer.loc[nearer["stage"] == "uniform", "value"].item() and lines["--"] == 0.26
    assert all(word in read(figure) for word in ("cn control_shuffled, asked in zh", "18/18", "half of the people, us"))
    found = styles.summarise_styles(styles.score_styles(everyone, items), **cfg.bootstrap)
    said = read(plots.survey.plot_styles(found))
    assert all(word in said for word in ("acquiescence (11 items)", "extremes (54 items)", "cn sft, asked in en"))


def test_the_map_draws_every_models_way(cfg, made):
    axes = culture_map.load_axes(cfg.root / "data" / "survey")
    places = culture_map.summarise_map(culture_map.score_components(axes, made[-1]), **cfg.bootstrap)
    figure = plots.survey.plot_map(places, axes, countries=pd.DataFrame())
    counted = "4 components (4 items) across and 3 components (3 items) upward"
    assert all(word in read(figure) for word in ("in the manner of", counted, "cn, shuffled", "cn, after GRPO", "people, us"))
    arrows = [text for axes in figure.axes[1:] for text in axes.texts if getattr(text, "arrow_patch", None)]
    assert len(arrows) == 12, "two languages, two cultures, base to SFT and from there to PPO and to GRPO"
    across, up = "survival_selfexpression", "traditional_secular"
    at = places[places["language"] == "zh"].pivot(index=["adapter", "stage"], columns="axis", values="value")
    states = (("none", "zero_shot"), ("cn", "sft"), ("cn", "ppo"), ("cn", "grpo"))
    way = [tuple(at.loc[state, [across, up]]) for state in states]
    drawn = [(tuple(arrow.xyann), tuple(arrow.xy)) for arrow in arrows]
    assert (way[0], way[1]) in drawn and (way[1], way[2]) in drawn and (way[1], way[3]) in drawn
