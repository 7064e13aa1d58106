"""heedful's side of `benchmarks/peers.py`: the trainers as the stages run them, on the work of `work.py`."""

from __future__ import annotations

import itertools
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import torch
from work import END, Texts, Work, answer_lengths, language_model, read_work, ready, scalar_model, steps, text_of, texts
from work import tokenizer as make_tokenizer

from heedful.data.records import Message, Prompt
from heedful.models import alignment, low_precision
from heedful.models.actor_critic import SeparateActorCritic, SharedActorCritic
from heedful.models.adapters import LoRA, attach
from heedful.models.low_precision import Computing
from heedful.models.modes import checkpoint_activations
from heedful.models.policy import Policy, reference_of
from heedful.models.scalar import Critic, RewardModel, new_reward_model
from heedful.rollout import decoding
from heedful.rollout.engine import NativeEngine
from heedful.rollout.types import RolloutParams
from heedful.training.answer_logprobs import known_logprobs
from heedful.training.batching import Example
from heedful.training.config.common import MemoryConfig, OptimiserConfig, usual_micro_batch
from heedful.training.config.online import GRPOConfig, PPOConfig, RLOOConfig
from heedful.training.config.preference import DPOConfig, PairMemoryConfig
from heedful.training.config.reward import RewardConfig
from heedful.training.config.rollout import RolloutConfig
from heedful.training.config.sft import SFTConfig
from heedful.training.config.updates import GRPOUpdateConfig, KLConfig, PPOUpdateConfig, RLOOUpdateConfig
from heedful.training.grpo import grpo, grpo_state
from heedful.training.pairs import Pair
from heedful.training.ppo import PPOModels, ppo, ppo_state
from heedful.training.preference import Objective, PreferenceData, dpo, preference_state
from heedful.training.preference_losses import read_mixture
from heedful.training.reward import learner, reward, reward_state
from heedful.training.reward_data import Comparison, Judged
from heedful.training.rloo import rloo, rloo_state
from heedful.training.rollouts import OnlineModels
from heedful.training.sft import sft, sft_state
from heedful.training.shared_prompt import can_share

CONSTANT = OptimiserConfig(learning_rate=1e-5, schedule="constant", warmup=0.0)


class Forced:
    """Answers of stated lengths: nothing ends before, and the last token ends."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.batch = -1
        self.lengths = torch.empty(0)
        inner = decoding.Decoding.__init__

        def begin(this: Any, *given: Any) -> None:
            inner(this, *given)
            self.attach(this)

        decoding.Decoding.__init__ = begin  # type: ignore[method-assign]

    def next_batch(self) -> None:
        """The lengths of the next step from now on."""
        self.batch += 1
        self.lengths = torch.tensor(answer_lengths(self.work, self.batch))

    def attach(self, this: Any) -> None:
        """Let a batch of rows end where it is to."""
        ends = self.lengths[torch.as_tensor(this.chunk.rows)].to(this.device) - 1
        decoding_of = weakref.ref(this)  # a class is a cycle: it would keep the cache until garbage is collected

        class Sampler(type(this.sampler)):  # type: ignore[misc]
            def __call__(self, logits: Any, uniform: Any, present: Any) -> tuple[Any, Any]:
                tokens, logprobs = super().__call__(logits, uniform, present)
                decoding = decoding_of()
                assert decoding is not None
                last = ends[decoding._slots] == decoding.step
                return tokens.where(tokens != END, END + 1).masked_fill(last, END), logprobs

        this.sampler.__class__ = Sampler


def policy_of(work: Work, *, seed: int = 1) -> Policy:
    """The policy that is trained."""
    model: Any = language_model(work, seed)
    if work.lora:
        model = attach(model, LoRA(work.lora, 2.0 * work.lora), seed=0)
    if work.checkpointing:
        checkpoint_activations(model)
    return Policy(model, make_tokenizer(work), precision=precision(work)).to(work.device)


def precision(work: Work) -> Any:
    """heedful's own word for it."""
    return work.precision


def example(prompt: list[int], answer: list[int]) -> Example:
    """A prompt with its answer, which is learnt."""
    return Example(prompt + answer, [False] * len(prompt) + [True] * len(answer))


def sft_steps(work: Work, read: Texts) -> Iterator[Any]:
    policy = policy_of(work)
    examples = [example(p, a) for p, a in zip(read.prompts, read.answers, strict=True)]
    config = SFTConfig("m", "d", Path("o"), epochs=1.0, batch_size=work.rows, optimiser=CONSTANT, memory=memory(work))
    return sft(sft_state(policy, config.optimiser, work.steps, 0), policy, examples, config)


def budget(work: Work) -> int:
    """Tokens of a pass: what heedful takes by itself on such a device, within the budget of both sides."""
    return work.tokens or min(work.budget, usual_micro_batch(work.device))


def memory(work: Work) -> MemoryConfig:
    """The budget of a pass."""
    return MemoryConfig(micro_batch_tokens=budget(work))


def reward_steps(work: Work, read: Texts) -> Iterator[Any]:
    model = RewardModel(scalar_model(work), make_tokenizer(work), precision=precision(work)).to(work.device)
    items = [
        Judged((example(p, a), example(p, b)), Comparison(1.0, 0.0, float("nan")), 1.0)
        for p, a, b in zip(read.prompts, read.answers, read.others, strict=True)
    ]
    config = RewardConfig("m", "d", Path("o"), batch_size=work.rows, optimiser=CONSTANT, memory=memory(work))
    made = learner(model, items, config)
    return reward(reward_state(made, config, work.steps), made, items, config)


def dpo_steps(work: Work, read: Texts) -> Iterator[Any]:
    policy = policy_of(work)
    reference = reference_of(policy)
    pairs = [
        Pair(example(p, a), example(p, b), 1.0, 0.0, 1.0)
        for p, a, b in zip(read.prompts, read.answers, read.others, strict=True)
    ]
    config = DPOConfig(
        "m", "d", Path("o"), batch_size=work.rows, optimiser=CONSTANT,
        memory=PairMemoryConfig(micro_batch_tokens=budget(work)),
    )  # fmt: skip
    share = can_share(policy, pairs, budget(work), later=work.compile or work.checkpointing)
    objective = Objective(read_mixture("sigmoid"), budget(work), share=share)
    state = preference_state(policy, config.optimiser, work.steps, 0)
    if work.cached_reference:
        known = known_logprobs(reference, pairs, budget(work), share=share)
        return dpo(state, policy, objective, PreferenceData(pairs, known=known), config)
    known = torch.zeros(2, len(pairs))
    trainer = dpo(state, policy, objective, PreferenceData(pairs, known=known), config)

    def with_reference() -> Iterator[Any]:
        from heedful.training.batching import batch_at

        while True:
            numbers = batch_at(state.step, len(pairs), work.rows, 1.0, 0)
            known[:, numbers] = known_logprobs(reference, [pairs[i] for i in numbers], budget(work), share=share)
            yield next(trainer)

    return with_reference()


def online_steps(work: Work, read: Texts) -> Iterator[Any]:
    policy = policy_of(work)
    judge = judge_of(work, policy)
    reference = reference_of(policy)
    if not work.lora:  # as the stages do, once the critic has its own
        judge.freeze()
    samples = 1 if work.kind.startswith("ppo") else work.samples
    prompts = [Prompt((Message("user", text_of(p)),)) for p in read.prompts[: work.rows // samples * work.steps]]
    common: dict[str, Any] = {
        "model": "m", "reward": "r", "data": "d", "out": Path("o"), "steps": work.steps, "optimiser": CONSTANT,
        "rollout": RolloutConfig(work.rows // samples, samples, 48), "memory": memory(work),
    }  # fmt: skip
    if work.kind in ("ppo", "ppo_shared"):
        shared = work.kind == "ppo_shared"
        update = PPOUpdateConfig(epochs=work.epochs)
        ppo_config = PPOConfig(**common, critic="shared" if shared else "separate", update=update)
        pair: Any = SharedActorCritic(policy) if shared else SeparateActorCritic(policy, critic_of(work, judge))
        models = PPOModels(pair, reference, judge)
        return ppo(ppo_state(pair, ppo_config), models, prompts, ppo_config)
    if work.kind == "rloo":
        rloo_config = RLOOConfig(**common, kl=KLConfig(level="sequence"), update=RLOOUpdateConfig(epochs=work.epochs))
        players = OnlineModels(policy, reference, judge)
        return rloo(rloo_state(players, rloo_config), players, prompts, rloo_config)
    grpo_config = GRPOConfig(**common, update=GRPOUpdateConfig(epochs=work.epochs))
    players = OnlineModels(policy, reference, judge)
    return grpo(grpo_state(players, grpo_config), players, prompts, grpo_config)


def judge_of(work: Work, policy: Policy) -> RewardModel:
    """A reward model of its own, or one that stands on the policy's base."""
    if work.one_base:
        return new_reward_model(policy, lora=LoRA(work.lora, 2.0 * work.lora), seed=2)
    return RewardModel(scalar_model(work), make_tokenizer(work), precision=precision(work)).to(work.device)


def critic_of(work: Work, judge: RewardModel) -> Critic:
    """A critic of its own, or one that begins as the reward model on the policy's base."""
    if work.one_base:
        return Critic.from_reward(judge)
    return Critic(scalar_model(work, 3), make_tokenizer(work), precision=precision(work)).to(work.device)


def generation_steps(work: Work, read: Texts) -> Iterator[Any]:
    policy = policy_of(work)
    for number in itertools.count():
        rows = read.prompts[number * work.rows : (number + 1) * work.rows]
        yield NativeEngine(policy).generate(rows, RolloutParams(48, seed=number))


KINDS: dict[str, Callable[[Work, Texts], Iterator[Any]]] = {
    "sft": sft_steps,
    "reward": reward_steps,
    "dpo": dpo_steps,
    "ppo": online_steps,
    "ppo_shared": online_steps,
    "rloo": online_steps,
    "grpo": online_steps,
    "generate": generation_steps,
}


def main() -> None:
    """Serve the driver."""
    work = read_work()
    Computing.compiles = work.compile
    if work.padded:
        alignment.lays = low_precision.lays = lambda inner: False
    forced = Forced(work)
    trainer = KINDS[work.kind](work, texts(work))

    def step() -> None:
        forced.next_batch()
        found = next(trainer)
        figures = getattr(found, "metrics", {})
        print({name: round(value, 5) for name, value in figures.items()}, file=sys.stderr)

    ready()
    steps(step)


if __name__ == "__main__":
    main()
