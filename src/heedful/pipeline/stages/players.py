"""Who takes part in learning online: the judge, the reference and the critic, under LoRA on the policy's own base."""

from __future__ import annotations

from torch import nn

from heedful.errors import HeedfulError
from heedful.models.actor_critic import SeparateActorCritic, SharedActorCritic
from heedful.models.adapters import is_adapted
from heedful.models.classifier import ClassifierReward
from heedful.models.one_base import SharedBase, weight_bytes
from heedful.models.policy import Policy, load_policy, reference_of
from heedful.models.rewards import Reward, aggregation, load_reward
from heedful.models.scalar import Critic, RewardModel
from heedful.pipeline.ray_scorers import remote_reward
from heedful.pipeline.stages.common import Opened, lora_of
from heedful.training.config.online import LeashedConfig, OnlineConfig, PPOConfig
from heedful.training.ppo import PPOModels
from heedful.training.sharding import held_by_all, opened_by_leader
from heedful.training.workers import current


def open_reward(stage: Opened, policy: Policy, config: OnlineConfig) -> Reward:
    """The judge: a scorer of the cluster's, where the run has some, else a model of this process. It is frozen."""
    if config.launch.scorers:
        return remote_reward(config, policy.precision)
    return open_reward_here(stage, policy, config)


def open_reward_here(stage: Opened, policy: Policy, config: OnlineConfig) -> Reward:
    """The judge in this process; under LoRA on the policy's base, where it was trained as an adapter of that.

    Where weights are sharded, a reward model is frozen in main memory, and no device holds it in float32.
    """
    base = SharedBase(policy) if is_adapted(policy.model) else None
    alone = current().shards and aggregation(config.reward) is None
    judge = load_reward(
        config.reward, base=base, device="cpu" if alone else str(policy.device), precision=policy.precision
    )
    if alone and isinstance(judge, RewardModel):
        judge.freeze()
        judge.to(policy.device)
    elif alone and isinstance(judge, ClassifierReward):
        judge.model.to(policy.device)
        judge.device = policy.device
    if base is None:
        return judge
    for name in base.standing:
        stage.display.say(f"{name}: an adapter of {config.model}, opened on the policy's base.")
    for name in base.apart:
        stage.display.say(
            f"{name}: an adapter, but not of {config.model} as it is opened here (its weights, loading.base_dtype); "
            "opened as a model of its own."
        )
    if isinstance(judge, RewardModel) and not base.standing:
        judge.freeze_trunk()
    return judge


def open_reference(policy: Policy, config: LeashedConfig) -> tuple[Policy, Policy | None]:
    """The frozen anchor of the KL; and the policy as it begins, where that is another and is looked at later.

    Raises:
        HeedfulError: a reference beside adapters, or one that reads other tokens.
    """
    if config.reference is None:
        return anchor(policy), None
    where = f"reference ({config.reference})"
    if is_adapted(policy.model):
        raise HeedfulError(
            "adapters are anchored to the base that they stand on.",
            where=where,
            mend="Leave the setting out, or train all weights (loading.lora_rank 0).",
        )
    loading = config.loading
    name = config.reference
    reference = opened_by_leader(
        lambda device: load_policy(name, template=loading.template, pad_token=loading.pad_token, device=device),
        str(policy.device),
    )
    if reference.tokenizer.get_vocab() != policy.tokenizer.get_vocab():
        raise HeedfulError(
            "its tokens are not the policy's, so there is no KL between the two.",
            where=where,
            mend="Give the model that the policy was trained from.",
        )
    reference.precision = policy.precision
    reference.model.eval()
    reference.freeze()
    held_by_all(reference)
    return reference, anchor(policy) if config.watch.mode != "off" else None


def anchor(policy: Policy) -> Policy:
    """The policy as it stands, frozen: whole at every worker, also where its own weights will be parted."""
    reference = reference_of(policy)
    reference.compute_on(policy.device)
    held_by_all(reference)
    return reference


def open_ppo_models(stage: Opened, policy: Policy, config: PPOConfig) -> PPOModels:
    """The reference, the reward and the critic that a PPO run needs; says what stands on one base."""
    judge = open_reward(stage, policy, config)
    reference, start = open_reference(policy, config)
    origin = critics_origin(stage, policy, config, judge) if config.critic == "separate" else judge
    if config.critic == "shared":
        models = PPOModels(SharedActorCritic(policy), reference, judge, start=start)
    elif isinstance(origin, RewardModel) and origin.tokenizer.get_vocab() == policy.tokenizer.get_vocab():
        critic = Critic.from_reward(origin, lora=lora_of(config), seed=config.seed)
        critic.compute_on(policy.device)
        models = PPOModels(SeparateActorCritic(policy, critic), reference, judge, critic_from_reward=True, start=start)
    else:
        critic = Critic.from_policy(policy, lora=lora_of(config), seed=config.seed)
        critic.compute_on(policy.device)
        models = PPOModels(SeparateActorCritic(policy, critic), reference, judge, start=start)
    if is_adapted(policy.model):
        stage.display.say(said_of_weights(models))
    settle(policy, judge)
    return models


def critics_origin(stage: Opened, policy: Policy, config: PPOConfig, judge: Reward) -> Reward:
    """The reward model that a critic begins as a copy of, if the judge is one.

    That is the judge itself; but one of the cluster's, or one that is frozen already, is opened once more for that and
    let go. Where weights are sharded, rank 0 alone has them.
    """
    if not current().shards:
        return open_reward_here(stage, policy, config) if config.launch.scorers else judge
    if not (config.launch.scorers or isinstance(judge, RewardModel)):
        return judge
    return opened_by_leader(
        lambda where: load_reward(config.reward, device=where, precision=policy.precision), str(policy.device)
    )


def settle(policy: Policy, judge: Reward) -> None:
    """Once all who start from the judge's weights have them: with full weights, it keeps none that it does not read."""
    if isinstance(judge, RewardModel) and not is_adapted(policy.model):
        judge.freeze()


def said_of_weights(models: PPOModels) -> str:
    """One line on who stands on the policy's base, and how much memory the weights take in all."""
    judge, both = models.reward, models.actor_critic
    parts: dict[str, nn.Module] = {"policy": models.policy.model, "reference": models.reference.model}
    parts["critic"] = both.value_module
    if isinstance(judge, RewardModel):
        parts["reward model"] = judge.model
    base = weight_bytes([models.reference.model])
    more = {name: weight_bytes([models.reference.model, part]) - base for name, part in parts.items()}
    together = [name for name, size in more.items() if size < base / 2]
    apart = [name for name in parts if name not in together]
    beside = f"; models of their own: {', '.join(apart)}" if apart else ""
    whole = weight_bytes(parts.values())
    return f"one base of {size_of(base)}: {', '.join(together)}{beside}. All weights: {size_of(whole)}."


def size_of(count: int) -> str:
    """Bytes for people."""
    return f"{count / 2**20:.1f} MiB"
