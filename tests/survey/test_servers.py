"""Models behind a URL: label probabilities from top lists, patience with a faulty server, answers kept, baselines of the survey."""

import json
import threading
import time
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from conftest import ROOT, copy_project
from hypothesis import given, settings
from hypothesis import strategies as st

from align_utils import config, survey
from align_utils.config.settings import ConfigError, ServerModel
from align_utils.models import load as models
from align_utils.survey import aligned, answers, ask, distances, paper, servers, shifts

SOURCE = ServerModel(
    name="far", loader="server", model="m", url_variable="ALIGN_TEST_URL", key_variable="ALIGN_TEST_KEY", licence="none",
    concurrency=3, timeout=5, top_logprobs=7,
)  # fmt: skip
KEY = "a-key-that-no-one-may-read"
GOOD = {"1": -0.5, " ": -1.5}


@pytest.fixture(autouse=True)
def surroundings(monkeypatch):
    """Three attempts without a wait that is worth the name; variables of another server and of a proxy, which must not matter."""
    monkeypatch.setattr(servers, "ATTEMPTS", 3)
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)
    monkeypatch.setenv(SOURCE.key_variable, KEY)
    monkeypatch.delenv(SOURCE.url_variable, raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "socks://127.0.0.1:9")
    for name in ("API_KEY", "BASE_URL", "ORG_ID", "PROJECT_ID"):
        monkeypatch.setenv(f"OPENAI_{name}", "another-servers")


@contextmanager
def serve(script):
    """A server on loopback, the source's meanwhile, whose answer to request n (from 1) is `script(n, body)`: status, content, headers."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                seen.append((self.path, dict(self.headers), body))
                number, state["now"] = len(seen), state["now"] + 1
                state["most"] = max(state["most"], state["now"])
            status, content, headers = script(number, body)
            with lock:
                state["now"] -= 1
            if not status:
                return  # hang up
            raw = content if isinstance(content, bytes) else json.dumps(content).encode()
            try:
                self.send_response(status)
                for name, value in {"Content-Length": str(len(raw)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(raw)
            except OSError:
                pass  # who asked has gone

        def log_message(self, *_):
            pass

    lock, seen, state = threading.Lock(), [], {"now": 0, "most": 0}
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    url = f"http://127.0.0.1:{httpd.server_port}/v1"
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(SOURCE.url_variable, url)
            yield url, seen, state
    finally:
        httpd.shutdown()
        httpd.server_close()


def complete(top):
    return 200, {"choices": [{"text": "1", "logprobs": {"top_logprobs": [top]}}]}, {}


# Labels from top lists, against an enumeration of all ways to write them.

TOKENS = [" ", "1", "2", "0", "10", " 1", " 10", "x", "xx"]
FORMS = {"1": 0, " 1": 0, "2": 1, " 2": 1, "10": 2, " 10": 2}


def list_ways(text):
    if not text:
        yield ()
    for token in TOKENS:
        if text.startswith(token):
            yield from ((token, *more) for more in list_ways(text[len(token) :]))


def enumerate_labels(lists):
    total = np.zeros(3)
    for form, index in FORMS.items():
        for way in list_ways(form):
            share = np.prod([lists["".join(way[:i])][token] for i, token in enumerate(way)])
            total[index] += share
            # Written on from a whole '1': no answer '1'.
            if index == 2 and any("".join(way[:i]) in {"1", " 1"} for i in range(1, len(way))):
                total[0] -= share
    return total


@settings(max_examples=75, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.3, 1.0, 4.0]), st.integers(2, len(TOKENS)))
def test_bounds_hold_and_close_when_the_lists_are_whole(seed, sharpness, kept):
    rng = np.random.default_rng(seed)
    lists = {b: dict(zip(TOKENS, rng.dirichlet([1 / sharpness] * 9) + 1e-9, strict=True)) for b in ("", " ", "1", " 1")}
    truth = enumerate_labels(lists)
    for size in (kept, len(TOKENS)):
        tops = {f"Q{b}": {t: np.log(p) for t, p in Counter(top).most_common(size)} for b, top in lists.items()}
        low, high, missing = servers.bound_labels("Q", ["1", "2", "10"], tops)
        assert not missing and (low <= truth + 1e-7).all() and (truth <= high + 1e-7).all()
    # What is left open by whole lists is only what began too rarely to be followed.
    assert (high - low).max() <= 4 * servers.FOLLOW


def test_ten_is_asked_for_by_a_second_request_and_taken_off_one():
    tops = {"Q": {" ": np.log(0.5), "1": np.log(0.25), "2": np.log(0.2)}}
    low, _, missing = servers.bound_labels("Q", ["1", "2", "10"], tops)
    assert missing == ["Q ", "Q1"]
    tops |= {"Q ": {"1": np.log(0.8), "2": np.log(0.2)}, "Q1": {"0": np.log(0.4), ".": np.log(0.6)}}
    low, _, missing = servers.bound_labels("Q", ["1", "2", "10"], tops)
    assert missing == ["Q 1"]
    tops |= {"Q 1": {"0": np.log(0.1), "\n": np.log(0.9)}}
    low, high, missing = servers.bound_labels("Q", ["1", "2", "10"], tops)
    assert not missing and low == pytest.approx([0.25 * 0.6 + 0.5 * 0.8 * 0.9, 0.2 + 0.5 * 0.2, 0.25 * 0.4 + 0.5 * 0.8 * 0.1])
    assert high[1] == pytest.approx(low[1] + 0.05)  # only ' 2' is not listed, and the first list leaves 0.05


@pytest.mark.parametrize(
    "logprobs",
    [
        {"top_logprobs": [{"1": -0.5, " ": -1.5}]},
        {"content": [{"token": "1", "top_logprobs": [{"token": "1", "bytes": [49], "logprob": -0.5}, {"token": " ", "logprob": -1.5}]}]},
        {"tokens": ["1"], "top_logprobs": [[{"token": "1", "logprob": -0.5}, {"token": " ", "logprob": -1.5}]]},
    ],
)  # fmt: skip
def test_every_known_form_of_the_answer_is_read(logprobs):
    assert servers.parse_top({"choices": [{"logprobs": logprobs}]}) == pytest.approx(GOOD)


@pytest.mark.parametrize("space", ["Ġ", "▁", "bytes:\\x20"])
@pytest.mark.parametrize("with_bytes", [True, False])
def test_raw_forms_of_the_vocabulary_are_read_as_the_texts_they_stand_for(space, with_bytes):
    tokens = {space + "2": -0.3, space: -2.0, "bytes:\\x31": -3.0, "2": -4.0}
    entries = [{"token": t, "logprob": v} | ({"bytes": list(t.encode())} if with_bytes else {}) for t, v in tokens.items()]
    top = servers.parse_top({"choices": [{"logprobs": {"content": [{"top_logprobs": entries}]}}]})
    assert top == {" 2": -0.3, " ": -2.0, "1": -3.0, "2": -4.0}
    assert servers.bound_labels("Q", ["1", "2"], {"Q": top})[0] == pytest.approx([np.exp(-3.0), np.exp(-0.3) + np.exp(-4.0)])


LOWEST, INF = -3.4028234663852886e38, float("inf")


@pytest.mark.parametrize(
    ("top", "words"),
    [
        ({"token_id:16": -0.4, "token_id:17": -1.3}, "ids"),
        ({" 2": 0.0, "!": LOWEST, '"': LOWEST}, "temperature"),  # of sampling at temperature 0
        ({" 2": 0.0, "!": -9999.0}, "temperature"),
        ({" 2": -0.6931472, " 1": -0.6931472, "x": -INF, "y": None}, "temperature"),  # cut by top_k
        ({" 2": 0.0}, "temperature"),
        ({" 2": -1.2, "x": -30.0}, "0.3012 of the probability"),  # a million tokens like the last could not hold the rest
    ],
)
def test_lists_that_cannot_be_the_models_stop_the_run(tmp_path, top, words):
    with serve(lambda *_: time.sleep(0.02) or complete(top)) as (_, seen, _), pytest.raises(servers.ServerError, match=words):
        servers.ask_next(SOURCE, [f"p{i}" for i in range(100)], tmp_path / "c", spare=10)
    assert len(seen) < 50


def test_padding_leaves_its_share_open():
    top = servers.check_list({" 1": -1.2, "x": -1.6, " 4": -INF, "y": None, "z": -9999.0}.items())
    assert top == {" 1": -1.2, "x": -1.6}
    low, high, _ = servers.bound_labels("Q", ["1", "4"], {"Q": top})
    assert low == pytest.approx([np.exp(-1.2), 0]) and high[1] == pytest.approx(1 - np.exp(-1.2) - np.exp(-1.6))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from([10**400, "\ud800", "token_id:1", "5" * 5000]) | st.text(),
    lambda part: st.lists(part, max_size=3) | st.dictionaries(st.sampled_from(["token", "bytes", "logprob", " 1", "10"]) | st.text(), part),
    max_leaves=12,
)  # fmt: skip
LIKELY = st.dictionaries(st.sampled_from(["1", " 1", "Ġ2", "10", "16"]) | st.text(), st.floats(-40, 0.1) | JSON, max_size=5)
ENTRIES = st.lists(
    st.fixed_dictionaries({"token": st.text() | JSON, "logprob": st.floats(max_value=0) | JSON, "bytes": JSON}), max_size=4
)


@settings(max_examples=150, deadline=None)
@given(JSON | st.builds(lambda first: {"choices": [{"logprobs": {"top_logprobs": [first]}}]}, LIKELY | ENTRIES | JSON))
def test_whatever_a_server_answers_gives_shares_or_an_error_of_this_project(answer):
    try:
        top = servers.parse_top(json.loads(json.dumps(answer)))
    except servers.ServerError as error:
        assert "\n" not in str(error)
        return
    low, high, missing = servers.bound_labels("Q", ["1", "2", "10"], {"Q": top})
    assert (low >= 0).all() and (low <= high + 1e-12).all() and (high <= 1).all() and low.sum() < 1.02
    assert json.loads(json.dumps(top)) == top and (missing or np.isfinite(servers._bound_error(low, high)))


# A faulty server.


def test_asked_once_each_at_most_three_at_a_time_in_the_order_given(tmp_path):
    def script(_, body):
        time.sleep(0.03)
        return complete({body["prompt"]: -0.5})

    with serve(script) as (url, seen, state):
        got = servers.ask_next(SOURCE, [f"p{i}" for i in range(12)] + ["p0"], tmp_path / "c")
    assert list(got) == [f"p{i}" for i in range(12)] and all(top == {p: pytest.approx(-0.5)} for p, top in got.items())
    assert len(seen) == 12 and 1 < state["most"] <= 3
    path, headers, body = seen[0]
    headers = {name.lower(): value for name, value in headers.items()}
    assert path == "/v1/completions" and headers["authorization"] == f"Bearer {KEY}" and "another-servers" not in str(headers)
    assert {**body, "prompt": ""} == {"model": "m", "prompt": "", "max_tokens": 1, "temperature": 1, "logprobs": 7}


@pytest.mark.parametrize(("status", "headers"), [(429, {}), (503, {}), (429, {"Retry-After": "1"})])
def test_a_passing_fault_is_sat_out(tmp_path, status, headers):
    start = time.monotonic()
    with serve(lambda n, _: (status, {}, headers) if n == 1 else complete(GOOD)) as (url, seen, _):
        assert servers.ask_next(SOURCE, ["p"], tmp_path / "c")["p"] == pytest.approx(GOOD)
    assert len(seen) == 2 and (time.monotonic() - start >= 1) == bool(headers)


def sleep(_, __):
    time.sleep(0.6)
    return complete(GOOD)


@pytest.mark.parametrize(
    ("script", "requests", "words"),
    [
        (lambda *_: (429, {}, {}), 3, ["Too many requests", "3 times", "concurrency"]),
        (lambda *_: (500, {"error": "broken"}, {}), 3, ["fails", "500", "broken"]),
        (sleep, 3, ["slow", "0.2 s", "timeout"]),
        (lambda *_: (0, {}, {}), 3, ["disconnected", "extra: {logprobs: true, top_logprobs: 7}"]),  # mlx_lm, of an integer
        (lambda *_: (404, {"message": "The model `m` does not exist"}, {}), 1, ["404", "knows 'm'", "/v1", "does not exist"]),
        (lambda *_: (401, {}, {}), 1, ["key is refused", SOURCE.key_variable]),
        (lambda *_: (400, {"message": "logprobs: 7 > 5"}, {}), 1, ["refused", "400", "7 > 5", "`top_logprobs` (7)"]),
        (lambda *_: (301, {}, {"Location": "/v2/"}), 3, ["after a redirect to http://127.0.0.1", "/v2/"]),
        (lambda *_: (200, {"choices": [{"text": "1", "logprobs": None}]}, {}), 1, ["no log-probabilities", "/v1/completions"]),
        (lambda *_: (200, {"error": {"message": "model 'm' not found"}}, {}), 1, ["no log-probabilities", "'m' not found"]),
        (lambda *_: complete({"1": 0.6, "2": 0.3}), 1, ["no log-probabilities", "sum to 3.17"]),
        (lambda *_: complete({"1": float("nan"), "2": -2.0}), 1, ["nan"]),
        (lambda *_: (200, b"<html>", {}), 1, ["not JSON", SOURCE.url_variable]),
        (lambda *_: (200, b"[" * 100_000, {}), 1, ["not JSON"]),
        (lambda *_: (200, [], {}), 1, ["no log-probabilities"]),
    ],
)
def test_a_lasting_fault_is_one_clear_error(tmp_path, script, requests, words):
    source = SOURCE.model_copy(update={"timeout": 0.2 if script is sleep else 5})
    with serve(script) as (url, seen, _), pytest.raises(servers.ServerError) as error:
        servers.ask_next(source, ["p"], tmp_path / "c")
    for word in ["model 'far' at http://127.0.0.1", *words]:
        assert word in str(error.value)
    assert len(seen) == requests and "\n" not in str(error.value) and KEY not in str(error.value)


def test_redirects_that_keep_the_request_are_followed_with_the_fields_of_the_models_own(tmp_path):
    source = SOURCE.model_copy(update={"extra": {"logprobs": True, "top_logprobs": 3}})
    with serve(lambda n, _: (307, {}, {"Location": "/real/v1/completions"}) if n == 1 else complete(GOOD)) as (_, seen, _):
        assert servers.ask_next(source, ["p"], tmp_path / "c")["p"] == GOOD
    assert [path for path, _, _ in seen] == ["/v1/completions", "/real/v1/completions"]
    assert seen[1][2]["logprobs"] is True and seen[1][2]["top_logprobs"] == 3


def test_a_few_unusable_answers_are_counted_and_asked_again_by_the_next_run(tmp_path):
    prompts = [f"p{i}" for i in range(30)]

    def script(_, body):
        return (400, {"message": "too long"}, {}) if body["prompt"] in {"p3", "p7"} else complete(GOOD)

    with serve(script), pytest.warns(UserWarning, match="2 of 30 answers.*too long"):
        got = servers.ask_next(SOURCE, prompts, tmp_path / "c", spare=2)
    assert [prompt for prompt, top in got.items() if not top] == ["p3", "p7"]
    assert servers.bound_labels("p3", ["1"], got)[1] == [1]
    with serve(script) as (_, seen, _), pytest.raises(servers.ServerError, match="too long"):
        servers.ask_next(SOURCE, prompts, tmp_path / "c", spare=1)
    assert {body["prompt"] for _, _, body in seen} == {"p3", "p7"}


def test_a_server_that_is_down_is_said_without_the_password_of_its_address(tmp_path, monkeypatch):
    with serve(lambda *_: complete(GOOD)) as (url, _, _):
        pass
    monkeypatch.setenv(SOURCE.url_variable, url.replace("//", "//me:sec@ret@"))
    with pytest.raises(servers.ServerError, match=r"refused.*down.*3 times.*ALIGN_TEST_URL") as error:
        servers.ask_next(SOURCE, ["p"], tmp_path / "c")
    assert "ret" not in str(error.value).replace("retr", "") and str(error.value).startswith(f"model 'far' at {url}: ")


@pytest.mark.parametrize("proxy", ["socks://127.0.0.1:9", "socks5h://127.0.0.1:9", "http://me:secret@127.0.0.1:port"])
def test_a_proxy_variable_that_is_not_understood_is_named(monkeypatch, tmp_path, proxy):
    monkeypatch.setenv(SOURCE.url_variable, "http://far.example:8000")
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("ALL_PROXY", proxy)
    with pytest.raises(servers.ServerError, match=r"all_proxy .*http://<host>:<port>") as error:
        servers.ask_next(SOURCE, ["p"], tmp_path / "c")
    assert "secret" not in str(error.value)


def test_address_and_key_come_from_the_environment(monkeypatch, tmp_path):
    for given_, used in [("http://127.0.0.1:1", "127.0.0.1:1/v1"), ("https://[::1]:2/api/v1/", "https://[::1]:2/api/v1")]:
        monkeypatch.setenv(SOURCE.url_variable, given_)
        client, at = servers._connect(SOURCE)
        assert at.endswith(used) and str(client.base_url).endswith(used + "/")
    for wrong in ("", "localhost:8000", "ftp://h", "http://h:port"):
        monkeypatch.setenv(SOURCE.url_variable, wrong)
        with pytest.raises(servers.ServerError, match=f"ALIGN_TEST_URL, found '{wrong}'"):
            servers._connect(SOURCE)
    monkeypatch.setenv(SOURCE.url_variable, "http://127.0.0.1:9/v1")
    monkeypatch.setenv(SOURCE.key_variable, "\n")
    with pytest.raises(servers.ServerError, match="ALIGN_TEST_KEY, which is not set"):
        servers.ask_next(SOURCE, ["p"], tmp_path / "c")
    with pytest.raises(ValueError, match="api_key"):
        ServerModel(**{**SOURCE.model_dump(), "api_key": KEY})


def test_an_interrupted_run_goes_on_and_damaged_lines_are_asked_again(tmp_path):
    prompts, cache = [f"p{i}" for i in range(10)], tmp_path / "c.jsonl"
    with serve(lambda n, _: complete(GOOD) if n <= 4 else (500, {}, {})) as (url, _, _), pytest.raises(servers.ServerError):
        servers.ask_next(SOURCE, prompts, cache)
    kept = cache.read_bytes().strip()
    done = len(kept.splitlines())
    assert 1 <= done <= 4
    # Without its first letter, and with a line that was cut off, one of no list and one of sampling at temperature 0.
    lines = [b'{"prompt": "ab", "top": 3}', b'{"prompt": "ac", "top": {"1": 0.0, "2": -9999}}', b'{"prompt": "ab", "to']
    cache.write_bytes(b"\n".join([kept[1:], *lines]))
    with serve(lambda *_: complete(GOOD)) as (url, seen, _):
        got = servers.ask_next(SOURCE, prompts, cache)
    assert len(got) == 10 and len(seen) == 10 - done + 1
    assert servers.ask_next(SOURCE, prompts, cache) == got, "no address needed any more"


# A real (tiny) model behind a URL, and the survey's baselines.


@pytest.fixture(scope="module")
def tiny():
    return models.load_base(config.load("smoke", root=ROOT).models["tiny"], seed=3)


def answer_with(tiny, size):
    model, tokenizer = tiny
    names = [token.replace("▁", " ") for token in tokenizer.convert_ids_to_tokens(range(len(tokenizer)))]
    lock = threading.Lock()

    def script(_, body):
        with lock, torch.inference_mode():
            logits = model(torch.tensor([tokenizer(body["prompt"])["input_ids"]])).logits[0, -1]
        logs = torch.log_softmax(logits.float(), -1).tolist()
        return complete(dict(sorted(zip(names, logs, strict=True), key=lambda pair: -pair[1])[:size]))

    return script


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    root = copy_project(tmp_path_factory.mktemp("far"))
    (root / "notebooks" / "settings" / "profiles" / "far.yaml").write_text(
        yaml.safe_dump({"extends": "smoke", "baselines": ["far-70b"], "survey": {"orders": "all"}})
    )
    content = SOURCE.model_dump(exclude={"name"}) | {"top_logprobs": 5000}
    (root / "notebooks" / "settings" / "models" / "far-70b.yaml").write_text(yaml.safe_dump(content))
    cfg = config.load("far", root=root)
    items = survey.items.load_items(root / "data" / "survey").query("question in ['Q2', 'Q48']")
    return cfg, items


def test_label_shares_are_those_of_the_model_read_directly(tiny, project, tmp_path, monkeypatch):
    cfg, items = project
    asked = survey.items.list_questions(cfg, items)[::2]
    direct = ask.score_labels(*tiny, asked, batch_tokens=2000)
    # The tiny model spreads its mass over 4,000 tokens: no space is likely enough to be followed by the rule.
    monkeypatch.setattr(servers, "FOLLOW", 0.0)
    with serve(answer_with(tiny, 5000)) as (url, _, _):
        far, bounds = servers.score_server_labels(cfg.baselines["far-70b"], asked, tmp_path / "c")
    for one, other in zip(direct, far, strict=True):
        assert other / other.sum() == pytest.approx(one / one.sum(), abs=1e-5)
    assert not bounds["missing"].any()


def test_baselines_are_asked_where_an_address_is_set_and_stand_beside_the_models(tiny, project):
    cfg, items = project
    (sentence,) = servers.ask_baselines(cfg, items)
    path = cfg.runs / "survey" / "far-70b.parquet"
    assert not path.exists() and "set ALIGN_TEST_URL=http" in sentence
    assert servers.describe_bounds(cfg).empty
    with serve(answer_with(tiny, 5000)) as (_, seen, _):
        assert servers.ask_baselines(cfg, items) == [] and len(seen) >= 14
    assert servers.ask_baselines(cfg, items) == [], "the server is gone: what is stored serves"
    frame = pd.read_parquet(path)
    assert set(frame["stage"]) == {"zero_shot"} and set(frame["adapter"]) == {"none"} and set(frame["model"]) == {"far-70b"}
    sums = frame.groupby(["language", "question", "order"])["probability"].sum()
    assert len(sums) == 14 and sums.to_numpy() == pytest.approx(1)
    bounds = servers.describe_bounds(cfg).set_index("language")
    assert bounds["n"].to_dict() == {"en": 7, "zh": 7} and bounds["largest error"].between(0, 1).all()
    # Beside a model of the run, in 05 and 06.
    turned = frame.groupby(["language", "question", "order"])["probability"].transform(lambda shares: shares.to_numpy()[::-1])
    tuned = frame.assign(model="tiny", adapter="cn", stage="ppo", probability=turned)
    pd.concat([frame.assign(model="tiny"), tuned]).to_parquet(cfg.runs / "survey" / "tiny.parquet")
    read = pd.DataFrame({"model": "tiny", "language": ["en", "zh"], "readout": "label", "chosen": True})
    read.to_csv(answers.find_readings(cfg, "tiny"), index=False)
    given_ = answers.load_answers(cfg)
    human = survey.human.load_human(cfg, items).shares
    shares = answers.average_orders(given_)
    heat = answers.tabulate_means(cfg, shares, human)
    assert {"far-70b, untuned en", "tiny, untuned zh"} <= set(heat.columns) and heat.max().max() <= 1
    halves = survey.human.draw_halves(cfg, survey.human.load_human(cfg, items))
    everyone = distances.add_references(shares, human, halves)
    measured = distances.measure_distances(everyone, human, halves)
    ranked = distances.rank_items(human, ("us", "cn"), wanted=1)
    judged = aligned.judge_items(measured, everyone, human, ranked, ("us", "cn"))
    moved = shifts.measure_shifts(cfg, measured, items)
    tables = shifts.summarise_shifts(moved, **cfg.bootstrap), shifts.compare_controls(moved, **cfg.bootstrap)
    metrics = pd.DataFrame(paper.record_survey(cfg, *tables, aligned.count_aligned(judged, **cfg.bootstrap))).assign(
        subset="all"
    )
    row = paper.compare_with_paper(cfg, metrics).iloc[-1]
    assert "aligned_with_china" in row["details"] and "of far-70b" in row["details"]
    # Another instrument: the stored answers are of other questions and leave the tables.
    assert servers.ask_baselines(cfg, items.head(1)) and answers.list_files(cfg) == [cfg.runs / "survey" / "tiny.parquet"]


def test_no_label_seen_anywhere_is_an_error_and_one_unseen_presentation_is_counted(project, tmp_path):
    cfg, items = project
    asked = survey.items.list_questions(cfg, items)
    with serve(lambda *_: complete({"Well": -0.1})) as (url, _, _), pytest.raises(servers.ServerError, match=r"no label.*Well"):
        servers.score_server_labels(cfg.baselines["far-70b"], asked, tmp_path / "a")
    odd = asked[3].prompt
    with serve(lambda _, body: complete({"Well": -0.1} if body["prompt"] == odd else {"1": -0.5, "2": -1.0})) as (url, _, _):
        scores, bounds = servers.score_server_labels(cfg.baselines["far-70b"], asked, tmp_path / "b")
    assert bounds.index[bounds["seen"] == 0].tolist() == [3] and bounds.loc[3, "error"] == 1
    assert scores[3] / scores[3].sum() == pytest.approx(np.full(len(asked[3].order), 1 / len(asked[3].order)))


@pytest.mark.parametrize(("name", "words"), [("nobody", "nobody.yaml: no such file"), ("tiny", "tiny.yaml: field 'loader'")])
def test_a_wrong_name_of_a_baseline_names_the_file(tmp_path, name, words):
    root = copy_project(tmp_path)
    profile = root / "notebooks" / "settings" / "profiles" / "far.yaml"
    profile.write_text(yaml.safe_dump({"extends": "smoke", "baselines": [name]}))
    with pytest.raises(ConfigError, match=words):
        config.load("far", root=root)


def test_every_server_of_notebooks_models_reads_its_key_from_a_variable_of_its_own():
    sources = [yaml.safe_load(path.read_text()) for path in sorted((ROOT / "notebooks" / "settings" / "models").glob("*.yaml"))]
    variables = [source["url_variable"] for source in sources if source["loader"] == "server"]
    assert len(variables) == len(set(variables)) >= 2
