"""An exported model is a plain transformers model that says what the tuned one says."""

import pytest
import torch
from conftest import copy_project
from test_training import prepare
from transformers import AutoModelForCausalLM, AutoTokenizer

from align_utils import artifacts, config, export, generation, models, prompts, sft


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    cfg = config.load("smoke", root=copy_project(tmp_path_factory.mktemp("export")))
    # A rate at which four steps change what the tiny model says.
    cfg.profile = cfg.profile.model_copy(update={"sft": cfg.profile.sft.model_copy(update={"learning_rate": 0.05})})
    stage = prepare(cfg)
    adapter = sft.train_sft(cfg, "tiny", "us", stage["us"])
    record = {"metric": "precision_at_5_attested", "model": "tiny", "culture": "us", "stage": "sft", "value": 0.25, "low": 0.1,
              "high": 0.4, "n": 16, "subset": "all"}  # fmt: skip
    artifacts.save_metrics(cfg, [dict.fromkeys(artifacts.METRIC_FIELDS) | record], "04", inputs=[])
    return cfg, stage, adapter, export.export_model(cfg, "tiny", "us", "sft")


def test_plain_transformers_give_the_same_greedy_text(exported):
    cfg, stage, adapter, folder = exported
    asked = [prompts.build_list_prompt(cfg.languages["en"], cue) for cue in stage["us"]["cues"]["test"][:4]]
    base, tokenizer = models.load_base(cfg.models["tiny"], seed=cfg.profile.seed)
    untuned = generation.generate_texts(base, tokenizer, asked, [1.0] * 4, max_new_tokens=12, batch=4)
    tuned = models.attach_adapter(base, adapter, "sft").eval()
    expected = generation.generate_texts(tuned, tokenizer, asked, [1.0] * 4, max_new_tokens=12, batch=4)
    plain, reader = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    texts = []
    for text in asked:
        inputs = reader(text, return_tensors="pt")
        with torch.inference_mode():
            output = plain.generate(
                input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], do_sample=False, max_new_tokens=12,
                eos_token_id=generation.find_stop_tokens(reader), pad_token_id=reader.pad_token_id,
            )  # fmt: skip
        texts.append(reader.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
    assert texts == expected and expected != untuned


def test_the_card_says_what_it_is_and_what_was_measured(exported):
    cfg, _, _, folder = exported
    card = (folder / "README.md").read_text()
    for words in (
        "not research data",
        "0.250 [0.100, 0.400]",
        "16 test",
        f"seed {cfg.profile.seed}",
        "random weights",
        "Not for",
    ):
        assert words in card
    assert not list(folder.glob("*.bin")) and (folder / "model.safetensors").is_file()


def test_an_adapter_that_is_not_there_names_the_notebook(exported):
    with pytest.raises(artifacts.MissingInput, match="03_ppo"):
        export.export_model(exported[0], "tiny", "cn", "ppo")
