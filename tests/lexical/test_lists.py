"""Lists that end with their fifth response, and whole ones beside them."""

import pytest
import torch
from test_participants import WORDS, make_project, make_talkative

from align_utils import config
from align_utils.config.profiles import take_main_line
from align_utils.config.settings import Decoding
from align_utils.lexical import lists
from align_utils.store.steps import hash_file


def test_a_list_that_ends_early_holds_the_first_responses_of_the_whole_one(english):
    """Each decoding alike; what is written after the last response that counts is not written at all."""
    cfg = config.load("smoke")
    model, tokenizer = make_talkative(3)
    letters, comma = torch.tensor(tokenizer.convert_tokens_to_ids([*WORDS])), tokenizer.convert_tokens_to_ids(",")

    def part(module, args, given, output):
        """A comma after every letter, and only there."""
        if output.logits.dim() == 3:  # not where cues are read, whose places are picked out
            last = given["input_ids"][:, given["input_ids"].shape[1] - output.logits.shape[1] :]
            output.logits[..., comma] += torch.where(torch.isin(last, letters), 60.0, -60.0)

    model.register_forward_hook(part, with_kwargs=True)
    vars(cfg)["profile"] = cfg.profile.model_copy(
        update={"lexical": cfg.profile.lexical.model_copy(update={"max_new_tokens": 30})}
    )
    ways = [Decoding(name="greedy"), Decoding(name="distinct", distinct=True)]
    asked = (cfg.profile.lexical, model, tokenizer, english, ["dog", "sun", "tree", "moon"], ways)
    whole, short = lists.generate_lists(*asked), lists.generate_lists(*asked, words=2)
    assert whole["responses"].map(len).max() > 2
    assert short["responses"].tolist() == [words[:2] for words in whole["responses"]]
    assert all(text.startswith(part) for text, part in zip(whole["text"], short["text"], strict=True))
    assert short["text"].str.len().sum() < whole["text"].str.len().sum()


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return make_project(tmp_path_factory.mktemp("lists"))


def test_the_appendix_leaves_the_main_lines_lists_as_they_are(project):
    cfg, people = project
    main = take_main_line(cfg)
    paths = lists.associate(main, "tiny", people)
    before = [hash_file(path) for path in paths]
    short, grids = lists.read_lists(main), lists.load_decodings(main)
    assert set(short["stage"]) >= {"few_shot", "sft", "ppo"} and not set(short["stage"]) & {"zero_shot", "rloo", "grpo"}
    more = lists.associate_run(cfg, people, whole=True)
    assert (
        set(more["stage"]) == {*short["stage"], "zero_shot", "rloo", "grpo"} and [hash_file(path) for path in paths] == before
    )
    # A stage keeps the decoding that the main line chose, and tries no other.
    again = lists.load_decodings(cfg, lists.WHOLE)
    tried = again.groupby(["culture", "stage"])["decoding"].agg(list)
    for row in grids[grids["chosen"]].itertuples():
        assert tried[row.culture, row.stage] == [row.decoding]
    assert tried.loc[:, "zero_shot"].map(len).eq(len(cfg.profile.lexical.grid)).all()
