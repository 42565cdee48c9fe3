"""The presentations that the survey asks."""

from align_utils import survey


def test_every_presentation_is_asked_once(cfg):
    from align_utils import wvs

    items = wvs.load_items(cfg.root / "data" / "survey").query("question in ['Q2', 'Q48']")
    asked = survey.list_questions(cfg, items)
    assert len(asked) == 2 * (5 + 2) and len({q.prompt for q in asked}) == len(asked)
