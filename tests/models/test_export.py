"""An exported model is a plain transformers model that says what the tuned one says."""

import huggingface_hub
import pytest
import torch
from conftest import copy_project, prepare
from transformers import AutoModelForCausalLM, AutoTokenizer

from align_utils import config, store
from align_utils.config import settings
from align_utils.config.profiles import read_settings
from align_utils.models import adapters, decode, export, load, prompts
from align_utils.store import steps
from align_utils.training import train


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    cfg = config.load("smoke", root=copy_project(tmp_path_factory.mktemp("export")))
    # A rate at which four steps change what the tiny model says.
    vars(cfg)["profile"] = cfg.profile.model_copy(update={"sft": cfg.profile.sft.model_copy(update={"learning_rate": 0.05})})
    stage = prepare(cfg)
    adapter = train.train_stage(cfg, "tiny", "us", "sft", stage)
    record = {"metric": "precision_at_5_attested", "model": "tiny", "culture": "us", "stage": "sft", "value": 0.25, "low": 0.1,
              "high": 0.4, "n": 16, "subset": "all"}  # fmt: skip
    store.Page("04_lexical_alignment", cfg).close([record])
    return cfg, stage, adapter, export.export_model(cfg, "tiny", "us", "sft")


def test_plain_transformers_give_the_same_greedy_text(exported):
    cfg, stage, adapter, folder = exported
    asked = [prompts.build_list_prompt(cfg.languages["en"], cue) for cue in stage["us"].cues["test"][:4]]
    base, tokenizer = load.load_base(cfg.models["tiny"], seed=cfg.profile.seed)
    untuned = decode.generate_texts(base, tokenizer, asked, [1.0] * 4, max_new_tokens=12, batch=4)
    tuned = adapters.attach_adapter(base, adapter, "sft").eval()
    expected = decode.generate_texts(tuned, tokenizer, asked, [1.0] * 4, max_new_tokens=12, batch=4)
    plain, reader = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    texts = []
    for text in asked:
        inputs = reader(text, return_tensors="pt")
        with torch.inference_mode():
            output = plain.generate(
                input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], do_sample=False, max_new_tokens=12,
                eos_token_id=decode.find_stop_tokens(reader), pad_token_id=reader.pad_token_id,
            )  # fmt: skip
        texts.append(reader.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
    assert texts == expected and expected != untuned


def test_the_card_says_what_it_is_and_what_was_measured(exported):
    cfg, _, _, folder = exported
    card = (folder / "README.md").read_text()
    measured, kept = (
        ("0.250 [0.100, 0.400] | 16 |", "16 test"),
        ("random weights", "Notices of the base model: none came with its files"),
    )
    for words in ("not research data", "Not for", f"seed {cfg.profile.seed}", *measured, *kept):
        assert words in card
    assert not list(folder.glob("*.bin")) and (folder / "model.safetensors").is_file()


@pytest.fixture
def notices(exported, monkeypatch, tmp_path):
    """Names of the notices that are found for a model of a loader and source."""
    cfg, package = exported[0], tmp_path / "fake_weights_gguf"
    (package / "data").mkdir(parents=True)
    for name in ("__init__.py", "data/GEMMA_TERMS.html", "data/NOTICE.md", "data/README.upstream.md", "data/SHA256SUMS"):
        (package / name).write_text(name)
    monkeypatch.syspath_prepend(tmp_path)

    def find(loader, source):
        found = settings.ModelSource(name="other", loader=loader, source=source, licence="its own")
        monkeypatch.setitem(cfg.models, "other", found)
        return [path.name for path in export._find_notices(found)]

    return find


def test_terms_and_notices_of_a_package_a_folder_and_the_hub_are_found(notices, monkeypatch, tmp_path):
    assert notices("gguf", "fake_weights_gguf") == ["GEMMA_TERMS.html", "NOTICE.md"]
    # The layout of the hub's cache: a branch names a commit, its snapshot holds the files.
    hub, commit = tmp_path / "hub", "0" * 40
    monkeypatch.setattr(export, "snapshot_download", lambda *a, **k: huggingface_hub.snapshot_download(*a, cache_dir=hub, **k))
    snapshot = hub / "models--some--model" / "snapshots" / commit
    (hub / "models--some--model" / "refs").mkdir(parents=True)
    (hub / "models--some--model" / "refs" / "main").write_text(commit)
    snapshot.mkdir(parents=True)
    for name in ("LICENSE", "config.json", "Notice.txt"):
        (snapshot / name).write_text(name)
    assert notices("transformers", "some/model") == ["LICENSE", "Notice.txt"]
    assert notices("transformers", str(snapshot)) == ["LICENSE", "Notice.txt"]
    assert notices("transformers", "some/other") == [] and notices("tiny", "none") == []


def test_the_card_names_the_notices(exported):
    given = {"norms": "0" * 64, "seed": 1}
    card = export.write_card(exported[0], "tiny", "us", "sft", given, notices=["NOTICE.md", "GEMMA_TERMS.html"])
    assert "Notices of the base model: `BASE-NOTICE.md`, `BASE-GEMMA_TERMS.html`." in card


def test_a_4_bit_model_is_merged_into_its_16_bit_weights(exported, monkeypatch):
    cfg = exported[0]
    four = read_settings(settings.ModelSource, "qwen2.5-7b-4bit", root=cfg.root)
    monkeypatch.setitem(cfg.models, "four", four)
    assert export._find_base(cfg, "four") == read_settings(settings.ModelSource, "qwen2.5-7b", root=cfg.root)
    monkeypatch.setitem(cfg.models, "four", four.model_copy(update={"merge_into": ""}))
    with pytest.raises(
        steps.ModelError, match=r"name the file of its 16-bit weights as `merge_into` in notebooks/settings/models/four\.yaml"
    ):
        export._find_base(cfg, "four")
    for path in (cfg.root / "notebooks" / "settings" / "models").glob("*-4bit.yaml"):
        source = read_settings(settings.ModelSource, path.stem, root=cfg.root)
        assert read_settings(settings.ModelSource, source.merge_into, root=cfg.root).in_paper == source.in_paper


def test_weights_larger_than_the_memory_are_refused_before_they_are_read(exported, monkeypatch):
    cfg = exported[0]
    large = cfg.models["tiny"].model_copy(update={"disk_gb": 15.5})
    monkeypatch.setattr(export.os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 3_000_000}.get)
    with pytest.raises(steps.ModelError, match=r"about 15\.5 GB, and this machine has 12\.3 GB of memory"):
        export._require_memory(large)
    export._require_memory(large.model_copy(update={"disk_gb": 12}))


def test_what_is_merged_keeps_the_type_of_its_files_on_a_card_too(exported, tmp_path, monkeypatch):
    cfg, folder = exported[:2]
    model, tokenizer = load.load_base(cfg.models["tiny"], seed=0)
    model.bfloat16().save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    source = settings.ModelSource(name="m", loader="transformers", source=str(tmp_path), licence="x")
    monkeypatch.setattr(load, "pick_device", lambda: (torch.device("cuda"), torch.float16, "as on a card"))
    merged, _ = load.load_base(source, seed=0, plain=True)
    assert (
        merged.dtype == torch.bfloat16 and merged.device.type == "cpu" and "forward" not in vars(merged.get_output_embeddings())
    )


def test_4_bits_without_unsloth_are_refused():
    with pytest.raises(ValueError, match="load_in_4bit needs `backend: unsloth`"):
        settings.ModelSource(name="m", loader="transformers", source="a/b", licence="x", load_in_4bit=True)


def test_an_adapter_that_is_not_there_names_the_notebook(exported):
    with pytest.raises(steps.MissingInput, match="03_ppo"):
        export.export_model(exported[0], "tiny", "cn", "ppo")
