"""Averages over the orders of options: what an answerer likes whatever stands there is taken out."""

import pandas as pd
import pytest

from align_utils.models import prompts
from align_utils.survey import answers


def test_orders_are_averaged_and_the_pair_is_the_first_and_the_last():
    names = {"model": "m", "adapter": "none", "stage": "zero_shot", "language": "en", "persona": "none", "question": "Q1"}
    rows = [
        {**names, "order": o, "place": place, "code": 1, "probability": p, "option_mass": 1}
        for o, place, p in ((0, 1, 0.2), (1, 3, 0.9), (2, 2, 0.4), (3, 3, 0.6))
    ]
    assert answers.average_orders(pd.DataFrame(rows))["share"].tolist() == pytest.approx([0.5])
    assert answers.average_orders(pd.DataFrame(rows), pair_only=True)["share"].tolist() == pytest.approx([0.4])


@pytest.mark.parametrize("n", range(2, 11))
@pytest.mark.parametrize("numeric", [False, True])
def test_an_answerer_who_only_likes_a_place_comes_out_in_the_middle(n, numeric):
    if numeric and n < 3:
        return
    names = {"model": "m", "adapter": "none", "stage": "zero_shot", "language": "en", "persona": "none", "question": "Q1"}
    rows = [
        {**names, "order": number, "place": place + 1, "code": code, "probability": float(place == 0), "option_mass": 1}
        for number, order in enumerate(prompts.list_orders(n, numeric=numeric))
        for place, code in enumerate(order)
    ]
    averaged = answers.average_orders(pd.DataFrame(rows)).sort_values("code")
    assert (averaged["share"] * averaged["code"]).sum() == pytest.approx((n - 1) / 2)
    if not numeric:
        assert averaged["share"].tolist() == pytest.approx([1 / n] * n)
