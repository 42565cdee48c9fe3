"""PriDe and the order average on answers whose place prior is known."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from align_utils.models import prompts
from align_utils.survey import answers
from align_utils.survey.answers import ANSWERER

positive = st.floats(0.05, 1.0)


def observe(contents, priors):
    """Answers in proportion to content(option) x prior(place), in every order; one question a list of contents."""
    rows = []
    for number, content in enumerate(contents):
        for order, places in enumerate(prompts.list_orders(len(content), numeric=False)):
            weight = np.array([content[index] for index in places]) * priors[len(content)]
            for place, index in enumerate(places):
                rows.append({
                    **dict.fromkeys(ANSWERER, "x"), "question": f"Q{number}", "order": order, "place": place + 1,
                    "code": index, "probability": weight[place] / weight.sum(), "option_mass": 1.0,
                })  # fmt: skip
    return pd.DataFrame(rows)


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
        truth = np.array(content) / sum(content)
        assert part["probability"].to_numpy() == pytest.approx(truth[part["code"].to_numpy()])


def test_bias_before_and_after_by_hand():
    frame = observe([[1.0, 1.0]] * 4, {2: np.array([0.8, 0.2])})
    table = answers.compare_debiasing(frame, share=0.5, seed=1).iloc[0]
    # Shares of places 0.8 and 0.2: standard deviation 0.3, times two places; the average over both orders is 0.5.
    assert table[["spread", "spread PriDe"]].tolist() == pytest.approx([0.6, 0])
    assert table[["first order to average", "PriDe to average"]].tolist() == pytest.approx([0.3, 0])
    assert (
        table["n"] == 2 and table["same mode"] == 1 and answers.average_orders(frame)["share"].to_numpy() == pytest.approx(0.5)
    )


def test_a_prior_for_other_sizes_alone_is_an_error():
    frame = observe([[1, 2], [1, 2, 3]], {2: np.array([0.6, 0.4]), 3: np.array([0.5, 0.3, 0.2])})
    with pytest.raises(ValueError, match="questions of \\[3\\] options"):
        answers.divide_prior(frame, answers.estimate_prior(frame[frame["question"] == "Q0"]))
