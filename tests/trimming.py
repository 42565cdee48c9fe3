"""A vocabulary cut down to the scripts in use (Ushio et al. 2023), for the race `sft_step_trimmed` alone: no part of the package."""

from __future__ import annotations

import unicodedata

import torch

from align_utils.models.gemma_gguf import SPACE
from align_utils.training.loss import FusedTrainer

NAMES = ("LATIN", "COMBINING", "CJK UNIFIED", "CJK COMPATIBILITY IDEOGRAPH", "FULLWIDTH LATIN", "FULLWIDTH DIGIT")


def is_kept(token: str) -> bool:
    """Whether all signs of a token are ASCII, Latin or Han script, punctuation or space.

    Examples
    --------
    >>> [is_kept(token) for token in ("▁café", "苹果", "，", "<0x0A>", "собака", "犬です", "😀")]
    [True, True, True, True, False, False, False]
    """
    return all(
        ord(sign) < 128
        or sign == SPACE
        or unicodedata.category(sign)[0] in "PZ"
        or unicodedata.name(sign, "").startswith(NAMES)
        for sign in token
    )


def pick_tokens(tokenizer) -> torch.Tensor:
    """Ids that stay, ascending: special tokens and what `is_kept` keeps (byte tokens are ASCII as they are written)."""
    special = set(tokenizer.all_special_ids)
    return torch.tensor(sorted(i for token, i in tokenizer.get_vocab().items() if i in special or is_kept(token)))


def trim_model(model, kept: torch.Tensor) -> torch.Tensor:
    """Cut the tied embedding and output layer of a model down to the kept rows, in place.

    Returns
    -------
    Tensor of shape (vocabulary,)
        New id of each old one; -1 for what is gone.
    """
    table = model.get_input_embeddings().weight
    if model.get_output_embeddings().weight is not table:
        raise ValueError("the output layer is not the embedding: this cut is for tied weights")
    places = torch.full((len(table),), -1)
    places[kept] = torch.arange(len(kept))
    table.data = table.data[kept].clone()
    return places


class TrimmedTrainer(FusedTrainer):
    """Our trainer on a trimmed model: the softmax runs over the kept tokens alone, so the loss is another one."""

    places: torch.Tensor

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """FusedTrainer's, on the new ids; raises ValueError where a token of the batch is gone."""
        ids, labels = self.places[inputs["input_ids"]], inputs["labels"]
        if (ids < 0).any():
            raise ValueError("a token of the training lists is not among the kept ones")
        moved = {**inputs, "input_ids": ids, "labels": torch.where(labels == -100, labels, self.places[labels.clamp(min=0)])}
        return super().compute_loss(model, moved, return_outputs, num_items_in_batch)
