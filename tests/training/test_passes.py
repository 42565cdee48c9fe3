"""PPO's shared passes: what trl reads of a scoring pass is what the plain model gives, with its gradient, at fewer passes."""

import inspect

import pytest
import torch
from peft import PeftModel
from trl.experimental.ppo.ppo_trainer import PolicyAndValueWrapper, forward

from align_utils.models import load
from align_utils.training import preference, sft


@pytest.fixture
def policy(cfg):
    model, _ = load.load_base(cfg.models["tiny"], seed=4)
    policy = PeftModel(model, sft.configure_lora(cfg.profile.lora), adapter_name="policy")
    torch.manual_seed(1)
    for name, weights in policy.named_parameters():
        if "lora_B" in name:
            weights.data.normal_(std=0.05)
    return policy.train()


class Rated:
    """What a critic asks of the rewards: here the token ids themselves, added up."""

    def earn(self, ids, mask):
        return (ids * mask.long()).cumsum(1).float() / 100


def score(wrapper, ids, start):
    """trl's scoring pass as its training loop reads it; gradients of a loss over logits and values."""
    wrapper.zero_grad()
    output, values = forward(wrapper, ids, 0)
    logits = output.logits[:, start - 1 : -1]
    (logits.logsumexp(-1).sum() + values[:, start - 1 : -1].square().sum()).backward()
    slopes = {name: weights.grad.clone() for name, weights in wrapper.named_parameters() if weights.grad is not None}
    return logits.detach(), values.detach(), slopes


def test_scoring_equals_that_of_the_plain_model_and_reads_the_backbone_once(policy, monkeypatch):
    torch.manual_seed(2)
    ids = torch.randint(5, 90, (3, 9))
    ids[0, :2] = 0  # padding on the left
    critic, core = preference.Critic(policy, Rated()), policy.get_base_model()
    wrapper = PolicyAndValueWrapper(policy, critic)
    seen, positions = [], []
    core.base_model.register_forward_hook(lambda *_: seen.append(1))
    core.get_output_embeddings().register_forward_hook(lambda _, __, out: positions.append(out.shape[1]))
    shared = score(wrapper, ids, 5)
    assert len(seen) == 1 and positions == [4], "one pass for both, logits of the four positions asked for"
    with torch.no_grad():
        reference = forward(policy, ids, 0).logits[:, 4:-1]
        values = critic.score(critic.backbone(ids, ids != 0, (ids != 0).cumsum(1) - (ids != 0).long()).hidden_states[-1])
    del core.forward
    critic.backbone._shared = False
    seen.clear(), positions.clear()
    plain = score(wrapper, ids, 5)
    assert len(seen) == 2 and positions == [9], "else the comparison proves nothing"
    real = (ids != 0)[:, 4:-1]
    assert real.all()
    for ours, theirs in zip(shared, plain, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(reference, plain[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(values, plain[1], rtol=1e-4, atol=1e-5)
    names = set(shared[2])
    assert any("lora" in name for name in names) and any(name.endswith("score.weight") for name in names)


def test_the_value_loss_does_not_move_the_policy_and_nothing_is_registered_twice(policy):
    critic = preference.Critic(policy, Rated())
    assert {name for name, _ in critic.named_parameters()} == {"score.weight", "score.bias"}
    ids = torch.randint(5, 90, (2, 6))
    _, values = forward(PolicyAndValueWrapper(policy, critic), ids, 0)
    # It starts from what is earned, and from nothing else.
    torch.testing.assert_close(values[..., 0], Rated().earn(ids, ids != 0))
    values.sum().backward()
    assert all(weights.grad is None for weights in policy.parameters()) and critic.score.weight.grad.abs().sum() > 0


def test_generation_and_models_with_another_head_are_left_as_they_are(policy):
    core, ids = policy.get_base_model(), torch.randint(5, 90, (2, 6))
    before = policy(input_ids=ids).logits
    backbone = preference.SharedBackbone(policy, Rated())
    assert torch.equal(policy(input_ids=ids).logits, before) and "forward" in vars(core)
    del core.forward
    core.config.final_logit_softcapping = 30.0
    backbone = preference.SharedBackbone(policy, Rated())
    assert not backbone._shared and inspect.signature(core.forward) == inspect.signature(type(core).forward.__get__(core))
    hidden = backbone(ids, torch.ones_like(ids), torch.arange(6).expand(2, 6)).hidden_states[-1]
    assert not hidden.requires_grad and backbone._last is None
    # Logits of 16 bits, as unsloth gives them: float32 where trl scores them, as they are where it generates.
    head = core.get_output_embeddings()
    head.register_forward_hook(lambda _, __, logits: logits.bfloat16())
    scored = policy(input_ids=ids, output_hidden_states=True).logits
    assert scored.dtype == torch.float32 and policy(input_ids=ids).logits.dtype == torch.bfloat16
