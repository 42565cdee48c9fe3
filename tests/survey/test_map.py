"""The map's indices and response styles by hand; the published construction: hidden traits found again, scores against other roads."""

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from matplotlib.text import Text
from surveys import make_answers, make_world

from align_utils import config, plots
from align_utils.config.profiles import read_yaml
from align_utils.store.textfiles import DataError
from align_utils.survey import distances, styles
from align_utils.survey import items as survey_items
from align_utils.survey import map as culture_map
from align_utils.survey.human import Respondents, draw_halves, load_human

FOLDER = ROOT / "data" / "survey"
AXES = culture_map.load_axes(FOLDER)
ALL = survey_items.load_items(FOLDER, choice="all", nominal=True)
NOBODY = make_answers("none", "zero_shot", {"Q1": [1.0]})[:0]
UP, ACROSS = (axis.name for axis in AXES)
RAW = read_yaml(FOLDER / "map.yaml")
NAMES = ["USA", "CHN", "AAA", "BBB", "CCC", "DDD", "EEE", "FFF", "GGG", "HHH", "III", "JJJ"]
TRUTH = pd.DataFrame(np.random.default_rng(7).uniform(-1, 1, (12, 2)), index=NAMES, columns=[UP, ACROSS])
WORLD = make_world(RAW, ALL, TRUTH, size=400, seed=1)
WHOLE = make_world(RAW, ALL, TRUTH, size=400, seed=2, missing=0)
INDICATORS = [name for axis in AXES for name in axis.variables]


def answer(shares, adapter="none", stage="zero_shot"):
    return make_answers(adapter, stage, shares)


def test_every_end_of_the_bundled_map_points_the_right_way():
    codes = {row.question: row.codes for row in ALL.itertuples()}
    # One secular, self-expressing answerer: codes as in the official questionnaire.
    modern = {
        "Q164": 1, "Q8": 1, "Q14": 1, "Q15": 2, "Q17": 2, "Q184": 10, "Q254": 4, "Q45": 3, "Q154": 2, "Q155": 4, "Q46": 1,
        "Q182": 10, "Q209": 1, "Q57": 1,
    }  # fmt: skip
    named = list(culture_map.list_weights(AXES)["question"].unique())
    assert sorted(named) == sorted(modern)
    shares = {q: {code: float(code == modern[q]) for code in codes[q]} for q in named}
    scores = culture_map.score_components(AXES, answer(shares))
    assert len(scores) == 10 and scores["value"].tolist() == [1.0] * 10
    opposite = {q: {codes[q][-1 if codes[q][0] == modern[q] else 0]: 1.0} for q in named if q not in {"Q154", "Q155"}}
    opposite |= {"Q154": {1: 1.0}, "Q155": {3: 1.0}}
    assert culture_map.score_components(AXES, answer(opposite))["value"].tolist() == [0.0] * 10


def test_missing_items_are_left_out_and_named(cfg):
    half = {q: {1: 0.5, n: 0.5} for q, n in (("Q164", 10), ("Q45", 3), ("Q57", 2))}
    tuned = {q: {1: 1.0, n: 0.0} for q, n in (("Q164", 10), ("Q45", 3), ("Q57", 2))}
    both = pd.concat([answer(half), answer(tuned, adapter="cn", stage="sft")])
    scores = culture_map.score_components(AXES, both)
    table = culture_map.summarise_map(scores, **cfg.bootstrap).set_index(["stage", "axis"])
    assert table.loc[("zero_shot", "traditional_secular"), ["value", "n", "items"]].tolist() == [0.5, 2, 2]
    # Importance of God falls to the first point (secular: 1), respect for authority rises to it (traditional: 0).
    assert table.loc[("sft", "traditional_secular"), "value"] == 0.5
    assert table.loc[("sft", "survival_selfexpression"), "move"] == 0.5
    said = culture_map.describe_places(AXES, scores, None)
    assert "traditional to secular-rational: god, authority (not in this run: autonomy, abortion, pride)" in said
    more = pd.concat([both, answer({"Q254": {1: 1.0}})])  # of one answerer alone
    assert len(culture_map.score_components(AXES, more)) == len(scores)
    with pytest.raises(DataError, match="none of the map's items"):
        culture_map.score_components(AXES, both.assign(question="Q2"))


def test_styles_worked_by_hand():
    items = survey_items.load_items(FOLDER, choice="all").set_index("question", drop=False)
    shares = {
        "Q33": {1: 0.4, 2: 0.2, 3: 0.3, 4: 0.1, 5: 0.0},  # strongly agree first; a middle point
        "Q122": {0: 0.5, 1: 0.2, 2: 0.3},  # disagree first; three points have no extremes
        "Q27": {1: 0.1, 2: 0.2, 3: 0.3, 4: 0.4},  # no middle point
        "Q158": {code: 0.1 for code in range(1, 11)},  # disagree first, ten points
        "Q2": {1: 0.7, 2: 0.1, 3: 0.1, 4: 0.1},  # no scale of agreement
        "Q57": {1: 0.9, 2: 0.1},  # two points show no style
    }
    found = styles.score_styles(answer(shares), items.loc[list(shares)].reset_index(drop=True))
    found = found.set_index(["style", "question"])["value"]
    assert found["acquiescence"].to_dict() == pytest.approx({"Q33": 0.5, "Q122": -0.2, "Q27": -0.4, "Q158": 0.0})
    assert found["midpoint"].to_dict() == pytest.approx({"Q33": 0.3, "Q122": 0.2, "Q158": 0.2})
    assert found["extremes"].to_dict() == pytest.approx({"Q33": 0.4, "Q27": 0.5, "Q158": 0.2, "Q2": 0.8})


# The published construction.


def load(tmp_path, people, profile="cpu_real"):
    for name in ("swow", "wvs"):
        (tmp_path / name).mkdir(exist_ok=True)
    text = people.to_csv(index=False)
    (tmp_path / "wvs" / "WVS_Cross-National_Wave_7_csv_v6_0.csv").write_text(text, encoding="utf-8-sig")
    cfg = config.load(profile, data_dir=tmp_path)
    return cfg, culture_map.load_atlas(cfg, AXES)


def place_run(cfg, atlas, items):
    """Answerers with the shares of the run's countries, and even ones, as notebook 06 makes them."""
    people = load_human(cfg, items)
    shares, halves = people.shares, draw_halves(cfg, people)
    scored = culture_map.score_components(AXES, distances.add_references(NOBODY, shares, halves))
    return scored, culture_map.summarise_places(scored, atlas, **cfg.bootstrap).set_index(["stage", "adapter", "axis"])


def test_countries_are_found_where_the_hidden_traits_put_them(tmp_path):
    people = WORLD.copy()
    people.loc[people["B_COUNTRY_ALPHA"] == "JJJ", "Q182"] = -4
    cfg, atlas = load(tmp_path, people)
    table = culture_map.list_countries(cfg.cultures, atlas).set_index("country")
    assert table.index.tolist() == sorted(NAMES)
    for axis, other in ((UP, ACROSS), (ACROSS, UP)):
        own = list(RAW[axis]["components"])
        assert table[axis].corr(TRUTH[axis]) > 0.95
        assert abs(table[axis].corr(TRUTH[other]) - TRUTH[UP].corr(TRUTH[ACROSS])) < 0.15
        assert (atlas.loadings[axis][own] > 0.5).all()
        assert atlas.loadings[other][own].abs().max() < 0.25
    assert table["culture"].to_dict() == {**dict.fromkeys(NAMES, ""), "USA": "us", "CHN": "cn"}
    assert table.index[~table["whole"]].tolist() == ["JJJ"] and table.loc["JJJ", "indicators"] == 9
    scored, _ = place_run(cfg, atlas, ALL)
    said = culture_map.describe_places(AXES, scored, atlas)
    assert (
        "12 countries" in said and "JJJ (homosexuality)" in said and "all 10 indicators" in said and "autonomy (Y003)" in said
    )


def test_loadings_and_scores_agree_with_other_roads():
    """Singular vectors of the standardised answers, turned by brute force, and least squares; nothing of the module."""
    frame = pd.DataFrame({"weight": 1.0, "country": WHOLE["B_COUNTRY_ALPHA"], **{q: WHOLE[q] for q in WHOLE if q[0] == "Q"}})
    atlas = culture_map.fit_atlas(AXES, ALL[ALL["question"].isin(frame)], Respondents(frame, {}, [], {}))
    indicators, strange = culture_map.score_people(AXES, ALL, frame)
    assert strange == {}
    # The published codes of two derived indicators, on another scale.
    autonomy = WHOLE["Q15"] + WHOLE["Q17"] - WHOLE["Q8"] - WHOLE["Q14"]
    aims = 1 + WHOLE["Q154"].isin([2, 4]).astype(int) + WHOLE["Q155"].isin([2, 4])
    assert indicators["autonomy"].to_numpy() == pytest.approx((autonomy.to_numpy() + 2) / 4)
    assert indicators["postmaterialism"].to_numpy() == pytest.approx((aims.to_numpy() - 1) / 2)
    z = ((indicators - indicators.mean()) / indicators.std(ddof=0)).to_numpy()
    left, roots, right = np.linalg.svd(z, full_matrices=False)
    raw = right[:2].T * roots[:2] / len(z) ** 0.5
    rows = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    angle, turn = 0.0, lambda a: np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
    for width in (np.pi / 4, np.pi / 1000, np.pi / 400_000):  # ever finer steps around the best angle so far
        angle = max(np.linspace(angle - width, angle + width, 1001), key=lambda a: ((rows @ turn(a)) ** 2).var(axis=0).sum())
    best = turn(angle)
    loadings, scores = raw @ best, left[:, :2] * len(z) ** 0.5 @ best
    which = [int(np.argmax(np.abs(loadings[INDICATORS.index(name)]))) for name in ("god", "trust")]
    signs = np.sign([loadings[INDICATORS.index(name), column] for name, column in zip(("god", "trust"), which, strict=True)])
    assert atlas.loadings.to_numpy() == pytest.approx(loadings[:, which] * signs, abs=1e-4)
    scores = scores[:, which] * signs
    published = np.array([[1.61, -0.1], [1.81, 0.038]])
    assert culture_map.place(atlas, indicators).to_numpy() == pytest.approx(
        scores * published[:, 0] + published[:, 1], abs=1e-3
    )
    # A partial score is the regression of the factor on what there is.
    some = [INDICATORS.index(name) for name in ("god", "pride", "trust", "happiness", "petition")]
    fitted = z[:, some] @ np.linalg.lstsq(z[:, some], scores, rcond=None)[0]
    found = culture_map.place(atlas, indicators[[INDICATORS[place] for place in some]]).to_numpy()
    assert found == pytest.approx(fitted * published[:, 0] + published[:, 1], abs=1e-3)
    # Where nothing is missing a country stands at the weighted mean of its respondents' scores.
    means = pd.DataFrame(scores).groupby(frame["country"]).mean() * published[:, 0] + published[:, 1]
    assert culture_map.place(atlas, atlas.means).to_numpy() == pytest.approx(means.to_numpy(), abs=1e-3)


def test_weights_and_gaps_count_as_repeated_rows_do():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(60, 4)) + rng.normal(size=(60, 1)), columns=list("abcd"))
    frame = frame.mask(rng.random(frame.shape) < 0.2)
    weights = pd.Series(rng.integers(1, 6, 60))
    centre, spread, correlations = culture_map.correlate_weighted(frame, weights)
    repeated = frame.loc[frame.index.repeat(weights)]
    assert correlations.to_numpy() == pytest.approx(repeated.corr().to_numpy())  # pandas takes pairs, too
    assert centre.to_numpy() == pytest.approx(repeated.mean().to_numpy())
    assert spread.to_numpy() == pytest.approx(repeated.std(ddof=0).to_numpy())


def test_an_answerer_with_a_country_s_shares_stands_beside_it(tmp_path):
    cfg, atlas = load(tmp_path, WHOLE)
    table = culture_map.list_countries(cfg.cultures, atlas).set_index("culture")
    _, places = place_run(cfg, atlas, ALL)
    for culture in ("us", "cn"):
        for axis in (UP, ACROSS):
            assert places.loc[("human", culture, axis), "value"] == pytest.approx(table.loc[culture, axis], abs=1e-9)
    # Asked the core items alone, an answerer has seven or so indicators; its country by the same ones is its place.
    core = survey_items.load_items(FOLDER)
    scored, places = place_run(cfg, atlas, core)
    used = [name for name in INDICATORS if name in set(scored["component"])]
    assert 3 < len(used) < 10 and places["indicators"].unique().tolist() == [len(used)]
    partial, whole = culture_map.place(atlas, atlas.means[used]), culture_map.place(atlas, atlas.means)
    for culture, country in (("us", "USA"), ("cn", "CHN")):
        for axis in (UP, ACROSS):
            assert places.loc[("human", culture, axis), "value"] == pytest.approx(partial.loc[country, axis], abs=1e-9)
            assert partial.loc[country, axis] != pytest.approx(whole.loc[country, axis], abs=1e-3)
    said = culture_map.describe_places(AXES, scored, atlas)
    incomplete, _ = place_run(cfg, atlas, ALL[ALL["question"] != "Q14"])
    assert "autonomy" in set(incomplete["component"])
    assert "without autonomy)" in culture_map.describe_places(AXES, incomplete, atlas)
    r = np.corrcoef(partial[UP], whole[UP])[0, 1]
    assert f"{len(used)} of 10 indicators" in said and f"over 12 countries is {r:.2f} (secular-rational)" in said


def test_moves_are_from_the_untuned_model_and_seeds_are_averaged(tmp_path):
    cfg, atlas = load(tmp_path, WHOLE)
    rows = []
    for stage, seed, value in (("zero_shot", 0, 0.5), ("sft", 0, 0.6), ("sft", 1, 0.8)):
        one = {"model": "m", "adapter": "none", "stage": stage, "language": "en", "persona": "none", "seed": seed}
        rows += [{**one, "axis": UP, "component": c, "items": 1, "value": value} for c in ("god", "abortion", "pride")]
    table = culture_map.summarise_places(pd.DataFrame(rows), atlas, **cfg.bootstrap).set_index(["stage", "axis"])
    assert table.loc[("sft", UP), ["seeds", "indicators"]].tolist() == [2, 3] and table.loc[("zero_shot", UP), "move"] == 0
    have = ["god", "abortion", "pride"]
    slope = np.linalg.solve(atlas.correlations.loc[have, have], atlas.loadings.loc[have, UP] * 1.61) / atlas.spread[have]
    assert table.loc[("sft", UP), "move"] == pytest.approx(0.2 * slope.sum())


def test_bad_files_stop_or_are_said(tmp_path):
    with pytest.raises(DataError, match="no column Q45 in the cross-national file"):
        load(tmp_path, WORLD.drop(columns="Q45"))
    gone = WORLD["B_COUNTRY_ALPHA"] == "DDD"
    with pytest.raises(DataError, match="no respondent of DDD with a weight"):
        load(tmp_path, WORLD.assign(W_WEIGHT=WORLD["W_WEIGHT"].mask(gone)))
    with pytest.raises(DataError, match="homosexuality.*nobody answered or all alike"):
        load(tmp_path, WORLD.assign(Q182=-4))
    split = WORLD.assign(Q164=WORLD["Q164"].mask(gone, -4), Q57=WORLD["Q57"].where(gone, -4))
    with pytest.raises(DataError, match="nobody answered together"):
        load(tmp_path, split)
    cfg, atlas = load(tmp_path, WORLD.assign(Q164=WORLD["Q164"].where(WORLD.index != 3, 77)))
    scored, _ = place_run(cfg, atlas, ALL)
    assert "1 answers to Q164 outside of its scale count as missing." in culture_map.describe_places(AXES, scored, atlas)


def test_without_the_file_the_indices_stay_as_they_are(cfg):
    items = survey_items.choose_items(cfg, nominal=True)
    scored, _ = place_run(cfg, None, items)
    assert culture_map.load_atlas(cfg, AXES) is None and culture_map.list_countries(cfg.cultures, None).empty
    found, indices = (
        culture_map.summarise_places(scored, None, **cfg.bootstrap),
        culture_map.summarise_map(scored, **cfg.bootstrap),
    )
    pd.testing.assert_frame_equal(found, indices, check_exact=True)


def test_the_figure_names_every_country_once_and_draws_the_way_of_every_model(tmp_path):
    plots.use_style()
    people = WHOLE.copy()
    people.loc[people["B_COUNTRY_ALPHA"] == "JJJ", "Q182"] = -4
    cfg, atlas = load(tmp_path, people)
    items = survey_items.load_items(FOLDER)
    people = load_human(cfg, items)
    shares, halves = people.shares, draw_halves(cfg, people)
    rows = []
    for number, (adapter, stage) in enumerate([("none", "zero_shot"), *[(c, s) for c in ("us", "cn") for s in ("sft", "ppo")]]):
        for language in ("en", "zh"):
            part = shares[shares["culture"] == ("cn" if number > 2 else "us")]
            bent = part["share"] + 0.05 * number + (0.2 if language == "zh" else 0.1)
            bent = bent / bent.groupby(part["question"]).transform("sum")
            names = {"model": "m", "adapter": adapter, "stage": stage, "language": language, "persona": "none", "seed": 0}
            rows.append(part[["question", "code"]].assign(**names, share=bent))
    scored = culture_map.score_components(AXES, distances.add_references(pd.concat(rows), shares, halves))
    places = culture_map.summarise_places(scored, atlas, **cfg.bootstrap)
    countries = culture_map.list_countries(cfg.cultures, atlas)
    figure = plots.survey.plot_map(places, AXES, countries=countries)
    whole = figure.axes[0]
    names = {text.get_text(): tuple(text.xy) for text in whole.texts if text.get_text() in NAMES}
    assert names == {row["country"]: (row[ACROSS], row[UP]) for row in countries.to_dict("records")}
    at = places[places["language"] == "zh"].pivot(index=["adapter", "stage"], columns="axis", values="value")
    way = [tuple(at.loc[state, [ACROSS, UP]]) for state in (("none", "zero_shot"), ("cn", "sft"), ("cn", "ppo"))]
    for axes in (whole, figure.axes[2]):
        arrows = [(tuple(text.xyann), tuple(text.xy)) for text in axes.texts if not text.get_text()]
        assert (way[0], way[1]) in arrows and (way[1], way[2]) in arrows
    said = " ".join(text.get_text() for text in figure.findobj(Text))
    assert "survival → self-expression" in said and "people, cn, by the models' indicators" in said and "not asked some" in said
