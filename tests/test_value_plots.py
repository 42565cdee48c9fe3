"""The figures of the values analysis on made-up answers with controls: everything is drawn, nothing is cut off."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from align_utils.plots import common as common_plots
from align_utils.plots import survey as survey_plots
from align_utils.survey import aligned, respondents, styles
from align_utils.survey import distances as survey_distances
from align_utils.survey import items as survey_items
from align_utils.survey import map as culture_map
from align_utils.survey.human import load_human

STATES = [("none", "zero_shot"), *[(c, s) for c in ("us", "cn") for s in ("sft", "ppo", "grpo", "control_shuffled")]]
MODEL = "some-model-with-a-long-name-7b"


@pytest.fixture(scope="module")
def made(cfg):
    common_plots.use_style()
    items = survey_items.choose_items(cfg)
    people = load_human(cfg, items)
    human = people.shares
    rng, rows = np.random.default_rng(0), []
    for adapter, stage in STATES:
        for language in ("en", "zh"):
            names = {"model": MODEL, "adapter": adapter, "stage": stage, "language": language, "persona": "none"}
            for item in items.itertuples():
                shares = rng.dirichlet(np.full(len(item.codes), 2.0))
                rows += [
                    {**names, "question": item.question, "code": c, "share": p} for c, p in zip(item.codes, shares, strict=True)
                ]
    averaged = pd.DataFrame(rows)
    halves = respondents.draw_halves(cfg, people)
    return items, human, halves, averaged, pd.concat([averaged, survey_distances.build_baselines(human, halves)])


def assert_whole(figure, *words):
    """Every text lies inside the figure, and the words are there."""
    FigureCanvasAgg(figure).draw()
    # Ticks beyond the limits of an axis exist without being drawn.
    ticks = {id(text) for axes in figure.axes for text in [*axes.get_xticklabels(), *axes.get_yticklabels(minor=True)]}
    texts = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible() and id(text) not in ticks]
    for text in texts:
        box = text.get_window_extent().transformed(figure.transFigure.inverted())
        assert box.x0 > -0.002 and box.x1 < 1.002 and box.y0 > -0.002 and box.y1 < 1.002, text.get_text()
    said = " ".join(text.get_text() for text in texts)
    assert not [word for word in words if word not in said]


def test_items_fit_even_eighteen_of_them(made):
    items, human, _, averaged, _ = made
    ranked = survey_distances.rank_tension(human, "us", "cn", size=20)
    frame = aligned.list_answers(averaged, human, items, ranked, culture="cn", language="zh")
    assert frame["question"].nunique() == 20 and set(frame["answerer"]) == {"us", "cn", "zero_shot", "sft", "ppo", "grpo"}
    assert frame.groupby(["question", "answerer"])["share"].sum().to_numpy() == pytest.approx(1)
    pages = survey_plots.plot_pages(frame, title="Items", of=60)
    assert {name: sum(axes.get_visible() for axes in page.axes) for name, page in pages.items()} == {"": 10, "_2": 10}
    assert_whole(pages[""], "1 to 10 of 20 chosen from 60")
    assert_whole(pages["_2"], "11 to 20 of 20 chosen from 60")
    figure = survey_plots.plot_items(frame[frame["question"].isin(ranked["question"].head(survey_plots.PAGE))], title="Items")
    assert_whole(figure, "Q182", "people, cn", "vanilla model", "Never justifiable")
    # Bars and lines carry the frame's numbers, in the order of the scale (Q56 is stored 1, 3, 2).
    axes = next(axes for axes in figure.axes if axes.get_title(loc="left").startswith("Q56 "))
    drawn = {line.get_label(): line.get_ydata().tolist() for line in axes.lines}
    mine = averaged[(averaged["question"] == "Q56") & (averaged["language"] == "zh") & (averaged["adapter"] == "cn")]
    for label, stage in (("PPO", "ppo"), ("GRPO", "grpo")):
        assert drawn[label] == mine[mine["stage"] == stage].set_index("code")["share"].loc[[1, 3, 2]].tolist()


def test_counts_styles_and_map_are_whole(cfg, made):
    items, human, halves, averaged, everyone = made
    distances = pd.concat(
        [survey_distances.measure_distances(averaged, human), survey_distances.measure_baselines(human, halves)]
    )
    ranked = survey_distances.rank_tension(human, "us", "cn", size=20)
    counts = aligned.count_aligned(cfg, aligned.judge_items(distances, everyone, human, ranked, toward="cn", away="us"))
    chance = aligned.find_chance(counts, human, ranked)
    figure = survey_plots.plot_counts(counts, titles={"nearer": "nearer", "mode": "mode"}, chance=chance, title="Counts")
    lines = [next(line for line in axes.lines if line.get_linestyle() == ":").get_xdata()[0] for axes in figure.axes]
    assert lines == [chance["nearer"], chance["mode"]]
    assert_whole(figure, "cn control_shuffled, asked in zh", "20/20", "half of the people, us")
    found = styles.summarise_styles(cfg, styles.score_styles(everyone, items))
    names = ["model", "adapter", "stage", "language", "persona"]
    found["label"] = [aligned.name_answerer(*row) for row in found[names].itertuples(index=False)]
    assert_whole(survey_plots.plot_styles(found), "acquiescence (11 items)", "extremes (54 items)")
    path = cfg.root / "data" / "survey"
    axes = culture_map.load_axes(path / "map.yaml", survey_items.load_items(path, choice="all", nominal=True))
    places = culture_map.summarise_map(cfg, culture_map.score_components(axes, items, everyone))
    figure = survey_plots.plot_map(survey_distances.pick_model(places, MODEL, "none"), axes)
    assert_whole(
        figure,
        "in the manner of",
        "4 components (4 items) across and 3 components (3 items) upward",
        "cn, shuffled",
        "cn, GRPO",
        "people, us",
    )
    arrows = [text for axes in figure.axes[1:] for text in axes.texts if getattr(text, "arrow_patch", None)]
    assert len(arrows) == 12, "two languages, two cultures, base to SFT and from there to PPO and to GRPO"
    across, up = "survival_selfexpression", "traditional_secular"
    at = places[places["language"] == "zh"].pivot(index=["adapter", "stage"], columns="axis", values="value")
    way = [
        tuple(at.loc[state, [across, up]]) for state in (("none", "zero_shot"), ("cn", "sft"), ("cn", "ppo"), ("cn", "grpo"))
    ]
    drawn = [(tuple(arrow.xyann), tuple(arrow.xy)) for arrow in arrows]
    assert (way[0], way[1]) in drawn and (way[1], way[2]) in drawn and (way[1], way[3]) in drawn
