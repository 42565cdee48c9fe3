"""The questions that the survey asks, and the table of their answers."""

import numpy as np
import pytest

from align_utils import config
from align_utils.models import prompts
from align_utils.survey import answers
from align_utils.survey.answers import tabulate_answers
from align_utils.survey.items import Question, list_questions, load_items


def test_every_question_is_asked_once(cfg):
    items = load_items(cfg.root / "data" / "survey").query("question in ['Q2', 'Q48']")
    asked = list_questions(cfg, items)
    assert len(asked) == 2 * (5 + 2) and len({q.prompt for q in asked}) == len(asked)


def test_a_persona_stands_before_the_question_and_is_kept_apart(cfg):
    items = load_items(cfg.root / "data" / "survey").query("question == 'Q2'")
    settings = cfg.profile.survey.model_copy(update={"personas": ["none", "cn"]})
    asked = list_questions(config.Config(cfg.profile.model_copy(update={"survey": settings}), cfg.root, cfg.data_dir), items)
    plain, told = ([q for q in asked if q.persona == persona] for persona in ("none", "cn"))
    words = {name: language.personas["cn"] for name, language in cfg.languages.items()}
    assert [words[q.language] + q.prompt for q in plain] == [q.prompt for q in told]
    answered = tabulate_answers(asked, [np.full(4, 0.1) if q.persona == "none" else np.arange(4) / 10 for q in asked])
    shares = answers.average_orders(answered.assign(model="m", adapter="none", stage="zero_shot"))
    assert shares.groupby("persona").size().to_dict() == {"none": 8, "cn": 8}


def tabulate(scores):
    """One question of as many options as each score has, in the orders it is asked in."""
    orders = prompts.list_orders(len(scores[0]), numeric=False)
    asked = [Question("Q1", "en", "none", tuple(order), tuple(range(1, len(order) + 1)), "") for order in orders]
    frame = tabulate_answers(asked, scores)
    return frame.assign(readout="label", refusal_mass=np.nan, model="m", adapter="none", stage="zero_shot")


def test_a_question_without_any_mass_is_even_and_counted():
    # An answerer who says the first place alone, and says nothing at all in one of the rotations.
    first, nothing = np.array([0.2, 0.0, 0.0]), np.zeros(3)
    frame = tabulate([first, nothing, first, first])
    shares = answers.average_orders(frame).set_index("code")["share"]
    # Codes 1 and 3 stand first in the two orders that say anything, a third of each comes from the one that does not.
    assert shares.loc[[1, 2, 3]].tolist() == pytest.approx([4 / 9, 1 / 9, 4 / 9])
    assert answers.describe_readouts(frame)[["empty", "option mass"]].iloc[0].tolist() == pytest.approx([1, 0.4 / 3])
    silent = tabulate([nothing] * 4)
    assert answers.average_orders(silent)["share"].tolist() == pytest.approx([1 / 3] * 3)
    assert answers.describe_readouts(silent)["empty"].tolist() == [3], "the order of the pair reading is not averaged"
