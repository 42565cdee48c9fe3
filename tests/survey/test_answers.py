"""Answers: what is asked and tabulated, averages over orders, agreement of read-outs, and PriDe where the place prior is known."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from align_utils import config
from align_utils.models import prompts
from align_utils.survey import answers
from align_utils.survey.answers import ANSWERER
from align_utils.survey.items import Question, list_questions, load_items

NAMES = {**dict.fromkeys(ANSWERER, "x"), "seed": 0}
positive = st.floats(0.05, 1.0)


def observe(contents, priors, *, numeric=False):
    """Answers in proportion to content(option) x prior(place), in every order; one question a list of contents."""
    rows = []
    for number, content in enumerate(contents):
        for order, places in enumerate(prompts.list_orders(len(content), numeric=numeric)):
            weight = np.array([content[index] for index in places]) * priors[len(content)]
            rows += [
                {**NAMES, "question": f"Q{number}", "order": order, "place": place + 1, "code": index,
                 "probability": weight[place] / weight.sum(), "option_mass": 1.0}
                for place, index in enumerate(places)
            ]  # fmt: skip
    return pd.DataFrame(rows)


def test_every_question_is_asked_once_and_a_persona_stands_before_it(cfg):
    items = load_items(cfg.root / "data" / "survey")
    survey = cfg.profile.survey.model_copy(update={"orders": "all"})
    mine = config.Config(cfg.profile.model_copy(update={"survey": survey}), cfg.root, cfg.data_dir)
    pairs = list_questions(cfg, items.query("question == 'Q2'"))
    assert [q.order for q in pairs if q.language == "en"] == [(0, 1, 2, 3), (3, 2, 1, 0)]
    assert len({q.bare_prompt for q in pairs}) == 2 and not any(q.options[0] in q.bare_prompt for q in pairs)
    asked = list_questions(mine, items.query("question in ['Q2', 'Q48']"))
    assert len(asked) == 2 * (5 + 2) and len({q.prompt for q in asked}) == len(asked)
    asked = list_questions(mine, items.query("question == 'Q2'"), personas=["none", "cn", "mars"])
    plain, told = ([q for q in asked if q.persona == persona] for persona in ("none", "cn"))
    words = {name: language.personas["cn"] for name, language in cfg.languages.items()}
    assert [words[q.language] + q.prompt for q in plain] == [q.prompt for q in told]
    table = answers.tabulate_answers(asked, [np.full(4, 0.1) if q.persona == "none" else np.arange(4) / 10 for q in asked])
    shares = answers.average_orders(table.assign(model="m", adapter="none", stage="zero_shot", seed=0))
    assert shares.groupby("persona").size().to_dict() == {"none": 8, "cn": 8}


def test_a_question_without_any_mass_is_even_and_counted():
    def tabulate(scores):
        asked = [Question("Q1", "en", "none", tuple(order), (1, 2, 3), "") for order in prompts.list_orders(3, numeric=False)]
        frame = answers.tabulate_answers(asked, scores)
        return frame.assign(readout="label", refusal_mass=np.nan, model="m", adapter="none", stage="zero_shot", seed=0)

    # An answerer who says the first place alone, and says nothing at all in one of the rotations.
    first, nothing = np.array([0.2, 0.0, 0.0]), np.zeros(3)
    frame = tabulate([first, nothing, first, first])
    # Codes 1 and 3 stand first in the two orders that say anything, a third of each comes from the one that does not.
    assert answers.average_orders(frame).sort_values("code")["share"].tolist() == pytest.approx([4 / 9, 1 / 9, 4 / 9])
    assert answers.describe_readouts(frame)[["empty", "option mass"]].iloc[0].tolist() == pytest.approx([1, 0.4 / 3])
    silent = tabulate([nothing] * 4)
    assert answers.average_orders(silent)["share"].tolist() == pytest.approx([1 / 3] * 3)
    assert answers.describe_readouts(silent)["empty"].tolist() == [3], "the order of the pair reading is not averaged"


def test_several_seeds_are_described_by_their_mean():
    one = observe([[1.0, 2.0, 5.0], [3.0, 1.0, 1.0]], {3: np.array([0.5, 0.3, 0.2])}).assign(readout="label", refusal_mass=0.1)
    alone = answers.describe_readouts(one).drop(columns=["empty", "n"])
    both = answers.describe_readouts(pd.concat([one, one.assign(seed=one["seed"] + 1)], ignore_index=True)).drop(
        columns=["empty", "n"]
    )
    pd.testing.assert_frame_equal(both, alone)


def test_orders_are_averaged_and_the_pair_is_the_first_and_the_last():
    given = ((0, 1, 0.2), (1, 3, 0.9), (2, 2, 0.4), (3, 3, 0.6))
    frame = pd.DataFrame(
        [{**NAMES, "question": "Q1", "order": o, "place": p, "code": 1, "probability": s} for o, p, s in given]
    )
    assert answers.average_orders(frame)["share"].tolist() == pytest.approx([0.5])
    assert answers.average_orders(frame, pair_only=True)["share"].tolist() == pytest.approx([0.4])


@pytest.mark.parametrize(
    ("n", "numeric"), [(n, numeric) for n in range(2, 11) for numeric in (False, True) if n > 2 or not numeric]
)
def test_an_answerer_who_only_likes_a_place_comes_out_in_the_middle(n, numeric):
    averaged = answers.average_orders(observe([[1.0] * n], {n: np.eye(n)[0]}, numeric=numeric))
    assert (averaged["share"] * averaged["code"]).sum() == pytest.approx((n - 1) / 2)
    assert numeric or averaged["share"].tolist() == pytest.approx([1 / n] * n)


def test_agreement_of_read_outs_by_hand():
    contents = {"label": [[0.8, 0.2], [0.4, 0.6]], "text": [[0.6, 0.4], [0.9, 0.1]]}
    given = pd.concat([observe(shares, {2: np.ones(2)}).assign(readout=name) for name, shares in contents.items()])
    written = pd.DataFrame([{**NAMES, "question": "Q0", "place": 0}, {**NAMES, "question": "Q1", "place": 2}])
    table = answers.compare_readouts(given, written).set_index("readout")
    assert table.loc["text", ["same mode", "distance", "n"]].tolist() == pytest.approx([0.5, (0.2 + 0.5) / 2, 2])
    generated = table.loc["generated", ["same mode", "distance", "parsed", "chance", "n"]]
    assert generated.tolist() == pytest.approx([1, 0.4, 0.5, 0.5, 1])


@settings(max_examples=8, deadline=None)
@given(
    st.lists(st.lists(positive, min_size=4, max_size=4), min_size=2, max_size=4),
    st.lists(st.lists(positive, min_size=2, max_size=2), min_size=2, max_size=3),
    st.lists(positive, min_size=4, max_size=4),
    st.lists(positive, min_size=2, max_size=2),
)
def test_a_known_prior_is_found_and_divided_out(fours, twos, four, two):
    priors = {4: np.array(four) / sum(four), 2: np.array(two) / sum(two)}
    frame = observe(fours + twos, priors)
    found = answers.estimate_prior(frame)
    for k, prior in priors.items():
        assert found.loc[found["options"] == k, "prior"].to_numpy() == pytest.approx(prior)
    clean = answers.divide_prior(frame, found)
    for number, content in enumerate(fours + twos):
        part = clean[clean["question"] == f"Q{number}"]
        assert part["probability"].to_numpy() == pytest.approx((np.array(content) / sum(content))[part["code"].to_numpy()])


def test_bias_before_and_after_by_hand():
    frame = observe([[1.0, 1.0]] * 4, {2: np.array([0.8, 0.2])})
    row = answers.compare_debiasing(frame, share=0.5, seed=1).iloc[0]
    # Shares of places 0.8 and 0.2: standard deviation 0.3, times two places; the average over both orders is 0.5.
    assert row[["spread", "spread PriDe"]].tolist() == pytest.approx([0.6, 0])
    assert row[["first order to average", "PriDe to average"]].tolist() == pytest.approx([0.3, 0])
    assert row["n"] == 2 and row["same mode"] == 1


def test_a_prior_for_other_sizes_alone_is_an_error():
    frame = observe([[1, 2], [1, 2, 3]], {2: np.array([0.6, 0.4]), 3: np.array([0.5, 0.3, 0.2])})
    with pytest.raises(ValueError, match="questions of \\[3\\] options"):
        answers.divide_prior(frame, answers.estimate_prior(frame[frame["question"] == "Q0"]))
