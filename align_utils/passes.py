"""Forward passes of PPO on a CPU: the backbone is read once for policy and critic, logits come where they are asked for."""

from __future__ import annotations

from functools import wraps
from types import SimpleNamespace

import torch
from peft import PeftModel
from torch import nn

from align_utils.loss import has_plain_head

# What trl hands to a scoring pass.
INPUTS = ("input_ids", "attention_mask", "position_ids")


class SharedBackbone(nn.Module):
    """The policy's backbone as trl's PPO asks the critic for it; the policy's own pass over the same tensors takes what it read.

    trl asks the critic first and the policy right after it, with the same tensors. It reads the logits of a scoring pass by
    slices of positions alone, so the output layer waits for the slice: the prompt's logits are never computed.
    The features reach the critic without gradient, so that the value loss never moves the policy's adapter.

    Parameters
    ----------
    policy : PeftModel
        Its `forward` is changed for scoring passes; generation is left as it is. Where not `loss.has_plain_head`, the passes are the
        model's own and their logits float32: from 16 bits the ratios and the KL of trl would be rounded too.
    """

    def __init__(self, policy: PeftModel):
        super().__init__()
        core = policy.get_base_model()
        # In training unsloth drops the mask of a backbone that is called by itself, and lists padded on the left would read padding.
        core.base_model._unsloth_keep_padding_mask = True
        # Functions and not modules: nothing of the policy is registered, moved or saved twice.
        self._read = lambda **given: core.base_model(use_cache=False, **given).last_hidden_state
        self._head = lambda hidden: core.get_output_embeddings()(hidden)
        self._plain, self._shared = core.forward, has_plain_head(core)
        self._last: tuple | None = None
        core.forward = self._score if self._shared else _widen_scores(core.forward)

    def forward(self, input_ids, attention_mask, position_ids, **_):
        """Last hidden states in the form trl reads them."""
        with torch.set_grad_enabled(self._shared and torch.is_grad_enabled()):
            hidden = self._read(input_ids=input_ids, attention_mask=attention_mask, position_ids=position_ids)
            self._last = (input_ids, hidden) if torch.is_grad_enabled() else None
        return SimpleNamespace(hidden_states=(hidden.detach().float(),))

    def _score(self, *places, **given):
        # Only trl's scoring passes ask for hidden states; generation does not.
        if not given.get("output_hidden_states"):
            return self._plain(*places, **given)
        known, self._last = self._last, None
        shared = known is not None and known[0] is given["input_ids"]
        hidden = known[1] if shared else self._read(**{name: given[name] for name in INPUTS})
        return SimpleNamespace(logits=_Asked(self._head, hidden))


def _widen_scores(plain):
    @wraps(plain)  # generation reads the signature
    def forward(*places, **given):
        output = plain(*places, **given)
        if given.get("output_hidden_states"):
            output.logits = output.logits.float()
        return output

    return forward


class _Asked:
    """Logits that are computed for the positions of a slice when it is taken."""

    def __init__(self, head, hidden: torch.Tensor):
        self._head, self._hidden = head, hidden

    def __getitem__(self, places) -> torch.Tensor:
        return self._head(self._hidden[places])
