"""Models behind a URL, asked the survey by label: requests, their cache, and bounds for what a list of likeliest tokens leaves open."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_exponential_jitter

from align_utils.config.profiles import Config
from align_utils.config.settings import ServerModel
from align_utils.store.steps import find_step, hash_settings, make_step, progress, save_frame
from align_utils.survey.answers import tabulate_answers
from align_utils.survey.ask import add_priors
from align_utils.survey.items import Question, list_questions

# Bumped when what is asked of a server, or what is made of its answers, changes.
SERVER_VERSION, BASELINE_VERSION = 1, 1
ATTEMPTS = 6
# Seconds before the first repetition (doubled with each) and before any, whatever the server asks for.
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0
# A label may follow the prompt at once or after a space; the probabilities are added up.
SPACES = ("", " ")
# A beginning of a label with less probability than this is not followed by a request of its own: it is bounded.
FOLLOW = 1e-3


class ServerError(RuntimeError):
    """A server cannot be reached, refuses, or answers something else than log-probabilities."""


def ask_baselines(cfg: Config, items: pd.DataFrame) -> list[str]:
    """Ask every baseline of the profile all items in all orders; what is stored is not asked again.

    Each gives `runs/<profile>/survey/<baseline>.parquet` (ANSWERS; adapter 'none', stage 'zero_shot').

    Returns
    -------
    list of str
        A sentence for each baseline that was left out: one without an address and without stored answers to these questions.
    """
    sentences, asked = [], list_questions(cfg, items)
    for name, source in progress(cfg.baselines.items(), desc="baselines", unit="model", leave=False):
        path, folder = cfg.runs / "survey" / f"{name}.parquet", _find_folder(cfg, name)
        # Not the address, nor the pace: the answers do not depend on them.
        own = {"version": SERVER_VERSION} | source.model_dump(include={"model", "top_logprobs", "extra"})
        settings = {
            "version": BASELINE_VERSION, "source": hash_settings(own),
            "questions": hash_settings({"asked": [[q.prompt, list(q.order), list(q.codes)] for q in asked]}),
        }  # fmt: skip
        if not find_step(folder, settings):
            if find_url(source) is None:
                # Answers to other questions must not stand beside these.
                path.unlink(missing_ok=True)
                sentences.append(
                    f"baseline {name} was not asked: start its server, set {source.url_variable}=http://<host>:<port>/v1, then "
                    f"make -W notebooks/05_wvs_survey.ipynb reproduce PROFILE={cfg.profile.name}"
                )
                continue
            cache = folder.with_name(f"{name}-requests-{settings['source']}.jsonl")
            with make_step(folder, settings) as work:
                scores, bounds = score_server_labels(source, asked, cache)
                save_frame(bounds, work / "bounds.parquet")
                frame = tabulate_answers(asked, scores).assign(readout="label", refusal_mass=np.nan)
                save_frame(frame, work / "answers.parquet")
        frame = pd.read_parquet(folder / "answers.parquet")
        frame = frame.assign(model=name, adapter="none", stage="zero_shot", seed=cfg.profile.seed)
        save_frame(add_priors(frame, items), path)
    return sentences


def describe_bounds(cfg: Config) -> pd.DataFrame:
    """How far the lists of the baselines that were asked leave their answers open, a row a model and language.

    `without any` counts the questions of which no label was seen: their answers are taken as uniform. The errors are of a label's
    share of the option mass.
    """
    rows = []
    for name in cfg.baselines:
        folder = _find_folder(cfg, name)
        if not (folder / "step.json").is_file() or not (cfg.runs / "survey" / f"{name}.parquet").is_file():
            continue
        labels = pd.read_parquet(folder / "answers.parquet").groupby("language").size()
        rows += [
            (name, language, len(part), part["missing"].sum() / labels[language], int((part["seen"] == 0).sum()), part["error"].mean(), part["error"].max())
            for language, part in pd.read_parquet(folder / "bounds.parquet").groupby("language", sort=False)
        ]  # fmt: skip
    columns = ["model", "language", "n", "labels not seen", "without any", "mean error", "largest error"]
    return pd.DataFrame(rows, columns=columns)


def _find_folder(cfg: Config, name: str) -> Path:
    return cfg.runs / "steps" / "survey" / f"{name}_server"


def score_server_labels(source: ServerModel, asked: Sequence[Question], cache: Path) -> tuple[list[np.ndarray], pd.DataFrame]:
    """Probability of each label of each question, as `ask.score_labels`, as far as the server's lists tell it: the lower bounds.

    Where no label was seen at all, all have the same tiny number. Beside it a row a question: `language, persona, question, seen` (mass
    of the labels), `unseen` (what the bounds allow beyond it), `missing` (labels not seen), `error` (how far a label's share may be off).
    A ServerError where no label was seen of any question.
    """
    tops: dict[str, dict[str, float]] = {}
    wanted = [q.prompt for q in asked]
    while wanted:
        tops |= ask_next(source, wanted, cache)
        read = [bound_labels(q.prompt, [str(place + 1) for place in range(len(q.order))], tops) for q in asked]
        wanted = [prompt for _, _, missing in read for prompt in missing]
    rows = [
        (*q.group, low.sum(), (high - low).sum(), int((low == 0).sum()), _bound_error(low, high))
        for q, (low, high, _) in zip(asked, read, strict=True)
    ]
    bounds = pd.DataFrame(rows, columns=["language", "persona", "question", "seen", "unseen", "missing", "error"])
    if not (bounds["seen"] > 0).any():
        raise ServerError(
            f"model '{source.name}': no label of any question is among the {source.top_logprobs} likeliest tokens after it; raise "
            f"`top_logprobs`, or the server puts the prompt into a chat template (likeliest after the first: {list(tops[asked[0].prompt])[:5]})"
        )
    return [low if low.sum() > 0 else np.full(len(low), 1e-12) for low, _, _ in read], bounds


def bound_labels(
    prompt: str, labels: Sequence[str], tops: dict[str, dict[str, float]]
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Lower and upper bounds, shape (n,), for the probability of each label after a prompt, and the prompts that `tops` still lacks.

    `tops` maps prompts to their likeliest next tokens (`ask_next`). A token that is a whole label counts for it; one that begins a
    label (a space, or the '1' of '10') is followed to the prompt with that token added. What goes on from '1' to '10' is not an
    answer '1'. Where a token is not in a list, its probability lies between 0 and the lowest one of the list, and below what the
    list leaves of one.

    Examples
    --------
    >>> from math import log
    >>> low, high, missing = bound_labels("Q:", ["1", "2"], {"Q:": {"1": log(0.5), " 2": log(0.25)}})
    >>> low.round(2).tolist(), high.round(2).tolist(), missing
    ([0.5, 0.25], [0.75, 0.5], [])
    """
    forms = {space + label: index for index, label in enumerate(labels) for space in SPACES}
    size = len(labels)
    missing: list[str] = []

    def follow(before: str) -> tuple[np.ndarray, np.ndarray]:
        # Given what was written before, the probability that each label comes of it; what is complete already does not count.
        low, high = np.zeros(size), np.zeros(size)
        rest = {form[len(before) :]: index for form, index in forms.items() if form.startswith(before) and form != before}
        if rest and prompt + before not in tops:
            missing.append(prompt + before)
        if not rest or prompt + before not in tops:
            return low, high
        shares = {token: float(np.exp(value)) for token, value in tops[prompt + before].items()}
        left, lowest = max(0.0, 1 - sum(shares.values())), min(shares.values())
        for token, share in shares.items():
            if not token or not any(form.startswith(token) for form in rest):
                continue
            if share >= FOLLOW:
                inside = follow(before + token)
            else:
                begun = {index for form, index in rest.items() if form.startswith(token) and form != token}
                inside = np.zeros(size), np.isin(np.arange(size), list(begun)).astype(float)
            low, high = low + share * inside[0], high + share * inside[1]
            if token in rest:
                low[rest[token]] += share * max(0.0, 1 - inside[1].sum())
                high[rest[token]] += share * max(0.0, 1 - inside[0].sum())
        absent = {index: set() for index in rest.values()}
        for form, index in rest.items():
            absent[index] |= {form[:end] for end in range(1, len(form) + 1)} - set(shares)
        for index, tokens in absent.items():
            high[index] += min(len(tokens) * lowest, left)
        return low, np.minimum(high, 1.0)

    return *follow(""), missing


def _bound_error(low: np.ndarray, high: np.ndarray) -> float:
    if low.sum() == 0:
        return 1.0
    share, others = low / low.sum(), high.sum() - high
    most = high / np.maximum(high + low.sum() - low, 1e-300)
    least = low / np.maximum(low + others, 1e-300)
    return float(np.maximum(most - share, share - least).max())


def find_url(source: ServerModel) -> str | None:
    """Address from the model's environment variable, without a slash at the end (`/v1` where it has no path); None where it is not set."""
    given = os.environ.get(source.url_variable)
    if not given:
        return None
    try:
        url = httpx.URL(given)
    except httpx.InvalidURL as error:
        raise ServerError(f"model '{source.name}': {source.url_variable} holds no address: {error}") from error
    if url.scheme not in {"http", "https"} or not url.host:
        raise ServerError(
            f"model '{source.name}': expected an address such as http://localhost:8000/v1 in {source.url_variable}, found {given!r}"
        )
    return given.rstrip("/") + ("/v1" if url.path in {"", "/"} else "")


def ask_next(source: ServerModel, prompts: Sequence[str], cache: Path) -> dict[str, dict[str, float]]:
    """Prompt to {text of a likely next token: log-probability}; what the cache holds is not asked again.

    The cache (JSON lines, one an answer, appended as it comes) is of one model and one length of the list. A ServerError says in one
    sentence that the server is down or slow after all attempts, that it does not know the model, refuses the key or the request, or
    gives no log-probabilities; answers that came before it stay in the cache.
    """
    known = read_cache(cache)
    wanted = [prompt for prompt in dict.fromkeys(prompts) if _hash_prompt(prompt) not in known]
    if wanted:
        url, headers = find_url(source), {}
        if url is None:
            raise ServerError(f"model '{source.name}': no address; set {source.url_variable}=http://<host>:<port>/v1")
        if source.key_variable:
            if not (key := os.environ.get(source.key_variable)):
                raise ServerError(
                    f"model '{source.name}': the server's key is read from {source.key_variable}, which is not set"
                )
            headers = {"Authorization": f"Bearer {key}"}
        cache.parent.mkdir(parents=True, exist_ok=True)
        with (
            httpx.Client(headers=headers, timeout=source.timeout) as client,
            ThreadPoolExecutor(source.concurrency) as pool,
            cache.open("a", encoding="utf-8") as file,
        ):
            futures = {pool.submit(_fetch, client, source, url, prompt): _hash_prompt(prompt) for prompt in wanted}
            try:
                for future in progress(as_completed(futures), total=len(wanted), desc=source.name, unit="prompt", leave=False):
                    key, top = futures[future], future.result()
                    file.write(json.dumps({"prompt": key, "top": top}, ensure_ascii=False) + "\n")
                    file.flush()
                    known[key] = top
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    return {prompt: known[_hash_prompt(prompt)] for prompt in prompts}


def read_cache(path: Path) -> dict[str, dict[str, float]]:
    """Answers kept so far, by prompt's hash; a last line that a crash cut off is taken away, another damaged one is a ServerError."""
    if not path.is_file():
        return {}
    raw = path.read_bytes()
    whole = raw[: raw.rfind(b"\n") + 1]
    if len(whole) < len(raw):
        with path.open("r+b") as file:
            file.truncate(len(whole))
    known = {}
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            entry = json.loads(line)
            known[entry["prompt"]] = {str(token): float(value) for token, value in entry["top"].items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ServerError(
                f"{path}, line {number}: not an answer that was kept here ({error}); delete the line to ask it again"
            ) from error
    return known


def parse_top(answer) -> dict[str, float]:
    """Likeliest first tokens of a completion: text to log-probability; tokens of the same text are added up.

    `logprobs` of the body's choice holds `top_logprobs`, a list with a mapping for each token (OpenAI's legacy completions, vLLM), or
    `content`, a list of tokens with a list `top_logprobs` each (llama.cpp).

    Examples
    --------
    >>> parse_top({"choices": [{"logprobs": {"top_logprobs": [{" 1": -0.5}]}}]})
    {' 1': -0.5}
    >>> parse_top({"choices": [{"logprobs": {"content": [{"top_logprobs": [{"token": " 1", "logprob": -0.5}]}]}}]})
    {' 1': -0.5}
    """
    try:
        held = answer["choices"][0]["logprobs"]
        first = held["content"][0]["top_logprobs"] if held.get("content") else held["top_logprobs"][0]
        pairs = first.items() if isinstance(first, dict) else [(_read_text(entry), entry["logprob"]) for entry in first]
        pairs = [(token, float(value)) for token, value in pairs if value is not None]
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        pairs = []
    if not pairs:
        raise ServerError("the answer holds no log-probabilities of the likeliest tokens")
    if any(math.isnan(value) for _, value in pairs):
        raise ServerError(
            "the answer holds log-probabilities that are not a number (NaN): the server's model is damaged or overflows"
        )
    shares: dict[str, float] = {}
    for token, value in pairs:
        shares[token] = shares.get(token, 0.0) + math.exp(min(value, 50.0))
    # Rounding may lift the sum a little above one; logits in their place lift it far.
    if not sum(shares.values()) < 1.01:
        raise ServerError("the answer holds numbers that are no log-probabilities: as probabilities they sum to more than one")
    return {token: math.log(max(share, 1e-300)) for token, share in shares.items()}


def _read_text(entry: dict) -> str:
    # Where bytes are given they are the token; its text may stand for them only roughly.
    return bytes(entry["bytes"]).decode("utf-8", "replace") if entry.get("bytes") else entry["token"]


def _hash_prompt(prompt: str) -> str:
    return hashlib.sha256(prompt.encode()).hexdigest()[:24]


def _fetch(client: httpx.Client, source: ServerModel, url: str, prompt: str) -> dict[str, float]:
    body = {"model": source.model, "prompt": prompt, "max_tokens": 1, "temperature": 0, "logprobs": source.top_logprobs}
    first = wait_exponential_jitter(multiplier=FIRST_WAIT, max=LONGEST_WAIT, jitter=FIRST_WAIT)

    def post():
        return client.post(f"{url}/completions", json=body | source.extra).raise_for_status().json()

    def wait(state: RetryCallState) -> float:
        error = state.outcome.exception()
        asked = error.response.headers.get("retry-after", "") if isinstance(error, httpx.HTTPStatusError) else ""
        return min(LONGEST_WAIT, max(first(state), float(asked) if asked.isdecimal() else 0.0))

    patience = Retrying(stop=stop_after_attempt(ATTEMPTS), wait=wait, retry=retry_if_exception(_passes), reraise=True)
    try:
        return parse_top(patience(post))
    except (httpx.HTTPError, ServerError, ValueError) as error:
        at = httpx.URL(url).copy_with(userinfo=b"")  # an address may hold a user and a password
        raise ServerError(f"model '{source.name}' at {at}: {_explain(error, source)}") from error


def _passes(error: BaseException) -> bool:
    """Whether a fault may pass: connection, time, too many requests, the server's own."""
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code == 429 or error.response.status_code >= 500
    return isinstance(error, httpx.TransportError)


def _explain(error: Exception, source: ServerModel) -> str:
    often, goes_on = f"{ATTEMPTS} times", "Answers so far are kept: run again to go on"
    if isinstance(error, ServerError):
        return (
            f"{error}. vLLM and llama.cpp give them through /v1/completions; chat servers and text-generation-inference do not"
        )
    if isinstance(error, httpx.TimeoutException):
        return f"the server is slow: no answer within {source.timeout:g} s, asked {often}. Raise `timeout` or lower `concurrency`. {goes_on}"
    if isinstance(error, httpx.TransportError):
        return f"the server is down: {error or type(error).__name__}, tried {often}. Start it or correct {source.url_variable}. {goes_on}"
    if not isinstance(error, httpx.HTTPStatusError):
        return f"the answer is not JSON. Is {source.url_variable} the address of an OpenAI-compatible server (…/v1)?"
    code, said = error.response.status_code, " ".join(error.response.text.split())[:300]
    if code == 404:
        return (
            f"not found (404): expected a server that knows '{source.model}' and an address that ends in /v1. It said: {said}"
        )
    if code in {401, 403}:
        return (
            f"the key is refused ({code}); it is read from {source.key_variable or 'no variable: name one by `key_variable`'}"
        )
    if code == 429:
        return f"too many requests (429), asked {often}. Lower `concurrency` or wait. {goes_on}"
    if code >= 500:
        return f"the server fails ({code}), asked {often}. It said: {said}. {goes_on}"
    return f"the request is refused ({code}). It said: {said}. If it is about logprobs, lower `top_logprobs` ({source.top_logprobs})"
