"""What TRL 1.12 computes, for test_oracle_trl.py. Runs in TRL's own environment, never in heedful's.

Answers requests, one JSON object a line on standard input, with one JSON object a line, all float64.
DPO and reward losses are TRL's methods, called on a stand-in for the trainer. The formulas of PPO, GRPO and RLOO stand
inside long methods: their lines are cut out of the source and executed as they are.
"""

from __future__ import annotations

import inspect
import json
import sys
import textwrap
from collections import defaultdict
from types import SimpleNamespace

import torch
from trl import DPOTrainer, KTOTrainer, RewardTrainer
from trl.experimental.bco import BCOTrainer
from trl.experimental.bco.bco_trainer import RunningMoments
from trl.experimental.cpo import CPOTrainer
from trl.experimental.orpo import ORPOTrainer
from trl.experimental.ppo import ppo_trainer
from trl.trainer import grpo_trainer, rloo_trainer

torch.set_default_dtype(torch.float64)


class Gives(torch.nn.Module):
    """A model whose output is already known."""

    def __init__(self, logits):
        super().__init__()
        self.logits = logits

    def forward(self, **_):
        return SimpleNamespace(logits=self.logits * 1.0)


def accelerator():
    return SimpleNamespace(device="cpu", gather=lambda x: x, gather_for_metrics=lambda x: x)


def dpo(given):
    logits = torch.tensor(given["logits"], requires_grad=True)
    tokens, mask = torch.tensor(given["tokens"]), torch.tensor(given["mask"]).long()
    reference = torch.tensor(given["reference_logits"])
    trainer = SimpleNamespace(
        model=SimpleNamespace(training=True, is_gradient_checkpointing=False),
        ref_model=Gives(reference),
        accelerator=accelerator(),
        args=SimpleNamespace(gradient_checkpointing_kwargs=None, discopop_tau=0.05),
        aux_loss_enabled=False,
        ld_alpha=None,
        precompute_ref_logps=False,
        f_divergence_type="reverse_kl",
        loss_types=[given["loss"]],
        loss_weights=[1.0],
        label_smoothing=given["epsilon"],
        beta=given["beta"],
        use_weighting=given["weighting"],
        _metrics=defaultdict(lambda: defaultdict(list)),
        _total_train_tokens=0,
    )
    inputs = {"input_ids": tokens, "completion_mask": mask, "attention_mask": torch.ones_like(tokens)}
    loss = DPOTrainer._compute_loss(trainer, Gives(logits), inputs, False)
    loss.backward()
    return {
        "loss": loss.item(),
        "gradient": logits.grad.tolist(),
        "entropy": trainer._metrics["train"]["entropy"][0],
    }


def kto(given):
    """Two batches of logits: the answers, and the mismatched ones behind the KL."""
    logits = torch.tensor(given["logits"], requires_grad=True)
    names = ("mismatched", "reference", "reference_mismatched")
    mismatched, reference, reference_mismatched = (torch.tensor(given[name]) for name in names)
    tokens, mask = torch.tensor(given["tokens"]), torch.tensor(given["mask"]).long()

    class Two(torch.nn.Module):
        def __init__(self, plain, other):
            super().__init__()
            self.plain, self.other = plain, other

        def forward(self, input_ids, **_):
            is_other = torch.equal(input_ids, tokens.flip(0))
            return SimpleNamespace(logits=(self.other if is_other else self.plain) * 1.0)

    trainer = SimpleNamespace(
        model=SimpleNamespace(training=True, is_gradient_checkpointing=False),
        ref_model=Two(reference, reference_mismatched),
        accelerator=accelerator(),
        args=SimpleNamespace(gradient_checkpointing_kwargs=None),
        aux_loss_enabled=False,
        calculate_KL=True,
        use_liger_kernel=False,
        precompute_ref_logps=False,
        loss_type="kto",
        beta=given["beta"],
        desirable_weight=given["desirable"],
        undesirable_weight=given["undesirable"],
        _metrics=defaultdict(lambda: defaultdict(list)),
        _total_train_tokens=0,
    )
    trainer._compute_kl_logps = lambda model, batch: KTOTrainer._compute_kl_logps(trainer, model, batch)
    ones = torch.ones_like(tokens)
    inputs = {
        "input_ids": tokens,
        "attention_mask": ones,
        "completion_mask": mask,
        "KL_input_ids": tokens.flip(0),
        "KL_attention_mask": ones,
        "KL_completion_mask": mask.flip(0),
        "label": torch.tensor(given["good"]),
    }
    loss = KTOTrainer._compute_loss(trainer, Two(logits, mismatched), inputs, False)
    loss.backward()
    return {"loss": loss.item(), "gradient": logits.grad.tolist()}


def sums(given):
    """Losses that TRL computes from summed (or mean) log-probabilities."""
    chosen, rejected = (torch.tensor(given[name], requires_grad=True) for name in ("chosen", "rejected"))
    trainer = SimpleNamespace(accelerator=accelerator(), label_smoothing=0.0, alpha=0.0, **given["settings"])
    if given["loss"] == "orpo":
        loss = -ORPOTrainer.odds_ratio_loss(trainer, chosen, rejected)[0]
    elif given["loss"] == "bco":
        trainer.running = RunningMoments(accelerator())
        trainer.match_underlying_distribution = False
        reference = [torch.tensor(given[f"reference_{name}"]) for name in ("chosen", "rejected")]
        loss = BCOTrainer.bco_loss(trainer, chosen, rejected, *reference, None, None, do_train=False)[0]
    else:
        loss = CPOTrainer.cpo_loss(trainer, chosen, rejected)[0]
    loss.sum().backward()
    return {"loss": loss.tolist(), "chosen": chosen.grad.tolist(), "rejected": rejected.grad.tolist()}


def reward(given):
    scores = torch.tensor(given["scores"], requires_grad=True)
    trainer = SimpleNamespace(
        model=SimpleNamespace(training=True),
        accelerator=accelerator(),
        args=SimpleNamespace(center_rewards_coefficient=given["centering"]),
        _metrics=defaultdict(lambda: defaultdict(list)),
        _total_train_tokens=0,
    )
    inputs = {"attention_mask": torch.ones(2, 2)}
    if given["margin"] is not None:
        inputs["margin"] = torch.tensor(given["margin"])
    loss = RewardTrainer.compute_loss(trainer, Gives(scores[:, None]), inputs)
    loss.backward()
    return {"loss": loss.item(), "gradient": scores.grad.tolist()}


def lines_of(method, first, last):
    """The lines of a method of TRL from the one that holds `first` up to the one that holds `last`."""
    lines = inspect.getsource(method).splitlines()
    start = next(i for i, line in enumerate(lines) if first in line)
    stop = next(i for i, line in enumerate(lines) if i > start and last in line)
    return textwrap.dedent("\n".join(lines[start:stop]))


def ppo_advantages(given):
    names = {name: torch.tensor(given[name]) for name in ("logprobs", "ref_logprobs", "values", "scores")}
    space = {
        **vars(ppo_trainer),
        **names,
        "responses": torch.zeros(names["logprobs"].shape, dtype=torch.long),
        "sequence_lengths": torch.tensor(given["last"]),
        "args": SimpleNamespace(
            kl_estimator="k1",
            kl_coef=given["coefficient"],
            whiten_rewards=given["whiten_rewards"],
            gamma=given["gamma"],
            lam=given["lam"],
        ),
    }
    first, last = "# be very careful with `padding_mask_p1`", "# Do multiple epochs of PPO"
    exec(lines_of(ppo_trainer.PPOTrainer.train, first, last), space)
    return {name: space[name].tolist() for name in ("rewards", "advantages", "returns")}


def ppo_losses(given):
    logprobs = torch.tensor(given["logprobs"], requires_grad=True)
    values = torch.tensor(given["values"], requires_grad=True)
    padding = ~torch.tensor(given["mask"])
    space = {
        **vars(ppo_trainer),
        "new_logprobs": logprobs * 1.0,
        "vpred": values * 1.0,
        "mb_logprobs": torch.tensor(given["old_logprobs"]),
        "mb_values": torch.tensor(given["old_values"]),
        "mb_return": torch.tensor(given["returns"]),
        "mb_advantage": torch.tensor(given["advantages"]),
        "padding_mask": padding,
        "padding_mask_p1": padding,
        "micro_batch_inds": slice(None),
        "args": SimpleNamespace(cliprange=given["clip"], cliprange_value=given["clip"], vf_coef=1.0),
    }
    exec(lines_of(ppo_trainer.PPOTrainer.train, "vpredclipped = torch.clamp(", "accelerator.backward(loss)"), space)
    space["loss"].backward()
    clipped = ((space["pg_losses2"] > space["pg_losses"]) & ~padding).tolist()
    return {
        "policy": space["pg_loss"].item(),
        "value": space["vf_loss"].item(),
        "policy_gradient": logprobs.grad.tolist(),
        "value_gradient": values.grad.tolist(),
        "clipped": clipped,
    }


def grpo_advantages(given):
    rewards = torch.tensor(given["rewards"])
    space = {
        **vars(grpo_trainer),
        "self": SimpleNamespace(
            multi_objective_aggregation="sum_then_normalize",
            reward_weights=torch.ones(1),
            scale_rewards="group" if given["scale"] else "none",
        ),
        "rewards_per_func": rewards.flatten()[:, None],
        "num_generations": rewards.shape[1],
        "device": "cpu",
    }
    first, last = "unscorable_mask = torch.isnan", "# Slice to keep only the local part"
    exec(lines_of(grpo_trainer.GRPOTrainer._generate_and_score_completions, first, last), space)
    return {"advantages": space["advantages"].view(rewards.shape).tolist()}


def grpo_loss(given):
    logprobs = torch.tensor(given["logprobs"], requires_grad=True)
    mask = torch.tensor(given["mask"]).double()
    space = {
        **vars(grpo_trainer),
        "self": SimpleNamespace(
            top_entropy_quantile=1.0,
            off_policy_mask_threshold=None,
            importance_sampling_level=given["level"],
            beta=given["beta"],
            epsilon_low=given["low"],
            epsilon_high=given["high"],
            loss_type=given["loss"],
            max_completion_length=given["longest"],
            use_vllm=False,
            vllm_importance_sampling_correction=False,
            model=SimpleNamespace(training=True),
            current_gradient_accumulation_steps=1,
            accelerator=SimpleNamespace(num_processes=1),
            args=SimpleNamespace(delta=None, use_bias_correction_kl=False, steps_per_generation=1),
        ),
        "per_token_logps": logprobs * 1.0,
        "entropies": torch.zeros_like(mask),
        "mask": mask,
        "inputs": {
            "advantages": torch.tensor(given["advantages"]),
            "old_per_token_logps": torch.tensor(given["old_logprobs"]),
            "ref_per_token_logps": torch.tensor(given["ref_logprobs"]),
            "num_items_in_batch": mask.sum(),
        },
    }
    exec(lines_of(grpo_trainer.GRPOTrainer._compute_loss, "if self.top_entropy_quantile", "# Entropy bonus"), space)
    space["loss"].backward()
    return {"loss": space["loss"].item(), "gradient": logprobs.grad.tolist()}


def rloo(given):
    """Advantages with the KL in the reward, then the loss on them."""
    logprobs = torch.tensor(given["logprobs"], requires_grad=True)
    mask, rewards = torch.tensor(given["mask"]).double(), torch.tensor(given["rewards"])
    old = torch.tensor(given["old_logprobs"])
    space = {
        **vars(rloo_trainer),
        "self": SimpleNamespace(
            reward_clip_range=None,
            beta=given["beta"],
            normalize_advantages=False,
            epsilon_low=given["clip"],
            epsilon_high=given["clip"],
        ),
        "gather": lambda x: x,
        "rewards": rewards.flatten(),
        "num_generations": rewards.shape[1],
        "old_per_token_logps": old,
        "ref_per_token_logps": torch.tensor(given["ref_logprobs"]),
        "completion_mask": mask,
        "per_token_logps": logprobs * 1.0,
    }
    first, last = "# Apply reward clipping if specified", "is_std_zero = torch.isclose"
    exec(lines_of(rloo_trainer.RLOOTrainer._generate_and_score_completions, first, last), space)
    space["inputs"] = {"old_logps": (old * mask).sum(1), "advantages": space["advantages"]}
    exec(lines_of(rloo_trainer.RLOOTrainer._compute_loss, "logps = (per_token_logps", "# Log the metrics"), space)
    space["loss"].backward()
    return {
        "advantages": space["advantages"].tolist(),
        "loss": space["loss"].item(),
        "gradient": logprobs.grad.tolist(),
    }


if __name__ == "__main__":
    for line in sys.stdin:
        request = json.loads(line)
        answer = globals()[request["what"]](request["given"])
        print("answer " + json.dumps(answer), flush=True)
