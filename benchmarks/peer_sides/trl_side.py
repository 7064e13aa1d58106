"""TRL's side of `benchmarks/peers.py`; `generate` is that of transformers alone. Imports nothing of heedful.

    .peers/trl-1.16.0/bin/python benchmarks/peer_sides/trl_side.py '{"kind": "dpo"}' '{"model_dtype": "bfloat16"}'

`ppo` is for TRL 1.12.0, the last with a PPO trainer, all else for 1.16.0. The second argument, `Settings`, is optional:
it is what a search for TRL's fastest settings turns.
"""

from __future__ import annotations

import json
import math
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

from work import (
    END,
    LONGEST_ANSWER,
    PAD,
    Stepper,
    Work,
    answer_lengths,
    language_model,
    read_work,
    ready,
    scalar_model,
    steps,
    text_of,
    texts,
    tokenizer,
)

RATE = 1e-5


@dataclass(frozen=True)
class Settings:
    """What TRL lets one choose, and the work leaves open."""

    model_dtype: str = "float32"
    """bfloat16 holds the trained weights, and with them AdamW's state, in bfloat16, without autocast."""
    frozen_dtype: str = ""
    """Of PPO's reference and reward models, which its trainer leaves out of autocast; empty: the work's precision."""
    rollout: int = 0
    """PPO's local_rollout_forward_batch_size: rows sampled and scored together; 0: the work's micro."""
    attention: str | None = None
    """Of all models, as transformers calls it; none: its own choice, sdpa."""
    by_length: bool = False
    """Rows of a step in the order of their lengths, so that those padded together are alike (offline kinds)."""
    trainer: dict[str, Any] = field(default_factory=dict)
    """More fields of the trainer's configuration."""
    generation: dict[str, Any] = field(default_factory=dict)
    """More arguments of `generate`."""


def main() -> None:
    work = read_work()
    settings = Settings(**(json.loads(sys.argv[2]) if len(sys.argv) > 2 else {}))
    kinds = {"sft": sft, "reward": reward, "dpo": dpo, "ppo": ppo, "rloo": grouped, "grpo": grouped}
    if work.kind == "generate":
        generate(work, settings)
    elif work.kind == "ppo":
        os.environ["ACCELERATE_MIXED_PRECISION"] = "bf16" if autocast(work, settings) else "no"
    with tempfile.TemporaryDirectory() as folder:  # the clock ends the process inside, but nothing large is left there
        trainer = kinds[work.kind](work, settings, folder)
    trainer.train()


# --- models ---


def autocast(work: Work, settings: Settings) -> bool:
    """Whether matrix products are cast to bfloat16 from weights that are not."""
    return work.precision == "bfloat16" and settings.model_dtype == "float32"


def causal(work: Work, settings: Settings) -> Any:
    """The language model, its attention as the settings have it."""
    return language_model(work, attention=settings.attention)


def scalar(work: Work, settings: Settings, seed: int = 2) -> Any:
    """The model with a score, likewise."""
    return scalar_model(work, seed, settings.attention)


def trained(model: Any, settings: Settings) -> Any:
    """A model whose weights have the type that is trained."""
    import torch

    return model.to(getattr(torch, settings.model_dtype))


def adapters(work: Work) -> Any:
    """What TRL takes for adapters, or none."""
    if not work.lora:
        return None
    from peft import LoraConfig

    return LoraConfig(
        r=work.lora,
        lora_alpha=2 * work.lora,
        target_modules="all-linear",
        task_type="SEQ_CLS" if work.kind == "reward" else "CAUSAL_LM",
    )


def words(work: Work) -> Any:
    """The tokenizer, as TRL's online trainers want it."""
    made = tokenizer(work)
    made.padding_side = "left"
    made.model_input_names = ["input_ids", "attention_mask"]
    return made


# --- the lengths of answers ---


def lengths_of_steps(work: Work) -> Iterator[int]:
    """The lengths of all rows of all steps, one after another."""
    for step in range(work.steps):
        yield from answer_lengths(work, step)


def force_lengths(model: Any, work: Work) -> None:
    """Have each row that `model.generate` samples end where the work says, and stop it there.

    Costs one addition to two columns of the logits a token. `END` and `PAD` are impossible before a row's length, and
    all but `END` are at it; past it the logits are untouched, and `generate` itself pads.
    """
    import torch
    from transformers import LogitsProcessor, LogitsProcessorList

    lengths = lengths_of_steps(work)
    inner = model.generate

    class Ending(LogitsProcessor):
        def __init__(self, rows: int, device: Any) -> None:
            last = torch.tensor([next(lengths) for _ in range(rows)], device=device) - 1
            place = torch.arange(LONGEST_ANSWER, device=device)[:, None]
            self.added = torch.zeros(LONGEST_ANSWER, rows, 2, device=device)
            self.added.masked_fill_((place < last)[..., None], -math.inf)
            self.added[..., END].masked_fill_(place == last, 1e4)
            self.token = 0

        def __call__(self, input_ids: Any, scores: Any) -> Any:
            scores[:, PAD : END + 1] += self.added[self.token]
            self.token += 1
            return scores

    def generate(*arguments: Any, input_ids: Any, **more: Any) -> Any:
        ending = LogitsProcessorList([Ending(len(input_ids), input_ids.device)])
        return inner(*arguments, input_ids=input_ids, logits_processor=ending, **more)

    model.generate = generate


# --- trainers ---


def clock(work: Work, optimizer_steps: int = 1) -> Any:
    """The callback that keeps the clock; a step may be several of the optimiser's."""
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.stepper = Stepper()
            ready()
            self.stepper.begin()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step % optimizer_steps == 0:
                self.stepper()

    return Clock()


def common(work: Work, settings: Settings, folder: str, rows: int, optimizer_steps: int = 1) -> dict[str, Any]:
    """What all trainers are told: AdamW over `rows` rows a pass until the step's rows are done, and nothing beside."""
    return {
        "output_dir": folder,
        "per_device_train_batch_size": rows,
        "gradient_accumulation_steps": work.rows // rows,
        "max_steps": work.steps * optimizer_steps,
        "learning_rate": RATE,
        "lr_scheduler_type": "constant",
        "max_grad_norm": 1.0,
        "bf16": autocast(work, settings),
        "gradient_checkpointing": work.checkpointing,
        "use_cpu": work.device == "cpu",
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": work.device == "cuda",
        "report_to": "none",
        "save_strategy": "no",
        "logging_strategy": "no",
        "disable_tqdm": True,
        "seed": work.seed,
        **settings.trainer,
    }


def in_order(work: Work, settings: Settings, rows: list[dict[str, Any]], length: Callable[[Any], int]) -> Any:
    """A data set whose rows are read in the order of the work, or within each step in that of their lengths."""
    from datasets import Dataset

    if settings.by_length:
        batches = [sorted(rows[at : at + work.rows], key=length) for at in range(0, len(rows), work.rows)]
        rows = [row for batch in batches for row in batch]
    return Dataset.from_list(rows)


def sft(work: Work, settings: Settings, folder: str) -> Any:
    """Loss on answers alone. Tokens are given, so nothing is tokenised."""
    from trl import SFTConfig, SFTTrainer

    read = texts(work)
    rows = [
        {"input_ids": [*prompt, *answer], "labels": [-100] * len(prompt) + answer}
        for prompt, answer in zip(read.prompts, read.answers, strict=True)
    ]
    told = {**common(work, settings, folder, work.micro), "max_length": None}
    if work.packing:
        # Sequences fill rows of `max_length` tokens by best fit, one row a pass, within the budget. A step takes as
        # many passes as its share of all tokens needs, and rows are as long as makes all tokens fill all passes of all
        # steps: so a step is its `work.rows` sequences' tokens in the mean, less what best fit leaves empty (about 1%).
        tokens = sum(len(row["input_ids"]) for row in rows)
        passes = math.ceil(tokens / work.steps / work.budget)
        told |= {
            "packing": True,
            "max_length": max(tokens // (passes * work.steps), work.longest),
            "per_device_train_batch_size": 1,
            "gradient_accumulation_steps": passes,
        }
    return SFTTrainer(
        model=trained(causal(work, settings), settings),
        args=SFTConfig(train_sampling_strategy="sequential", **told),
        train_dataset=in_order(work, settings, rows, lambda row: len(row["input_ids"])),
        processing_class=words(work),
        peft_config=adapters(work),
        callbacks=[clock(work)],
    )


def reward(work: Work, settings: Settings, folder: str) -> Any:
    """Pairs. TRL counts its rows in pairs: half as many as the rows of a pass."""
    from trl import RewardConfig, RewardTrainer

    read = texts(work)
    rows = [
        {"chosen_ids": [*prompt, *answer], "rejected_ids": [*prompt, *other]}
        for prompt, answer, other in zip(read.prompts, read.answers, read.others, strict=True)
    ]
    return RewardTrainer(
        model=trained(scalar(work, settings), settings),
        args=RewardConfig(
            train_sampling_strategy="sequential",
            max_length=None,
            **common(work, settings, folder, max(work.micro // 2, 1)),
        ),
        train_dataset=in_order(work, settings, rows, lambda row: max(len(row["chosen_ids"]), len(row["rejected_ids"]))),
        processing_class=words(work),
        peft_config=adapters(work),
        callbacks=[clock(work)],
    )


def dpo(work: Work, settings: Settings, folder: str) -> Any:
    """Pairs, as for the reward model. With adapters the reference is the model without them."""
    from trl import DPOConfig, DPOTrainer

    read = texts(work)
    rows = [
        {"prompt": text_of(prompt) + " ", "chosen": ended(answer), "rejected": ended(other)}
        for prompt, answer, other in zip(read.prompts, read.answers, read.others, strict=True)
    ]
    reference = None if work.lora or work.cached_reference else trained(causal(work, settings), settings)
    return DPOTrainer(
        model=trained(causal(work, settings), settings),
        ref_model=reference,
        args=DPOConfig(
            train_sampling_strategy="sequential",
            max_length=None,
            beta=0.1,
            precompute_ref_log_probs=work.cached_reference,
            **common(work, settings, folder, max(work.micro // 2, 1)),
        ),
        train_dataset=in_order(
            work,
            settings,
            rows,
            lambda row: row["prompt"].count(" ") + max(row[side].count(" ") for side in ("chosen", "rejected")),
        ),
        processing_class=words(work),
        peft_config=adapters(work),
        callbacks=[clock(work)],
    )


def ended(answer: list[int]) -> str:
    """An answer's text, with its end of turn."""
    return text_of(answer[:-1]) + " <end>"


def ppo(work: Work, settings: Settings, folder: str) -> Any:
    """Policy, value model, reference and reward model, each on its own. Its trainer has no clipping of gradients.

    The trainer takes neither `bf16` nor `gradient_checkpointing` from its configuration: autocast comes as
    `accelerate launch --mixed_precision bf16` gives it, by the environment, and covers the trained passes alone;
    checkpointing is switched on in the models.
    """
    import torch
    from datasets import Dataset
    from trl.experimental.ppo import PPOConfig, PPOTrainer

    policy, value = trained(causal(work, settings), settings), trained(scalar(work, settings, seed=3), settings)
    frozen = getattr(torch, settings.frozen_dtype or work.precision)
    policy.generation_config.update(**settings.generation)
    force_lengths(policy, work)
    if work.checkpointing:
        policy.gradient_checkpointing_enable()
        value.gradient_checkpointing_enable()
    told = common(work, settings, folder, work.micro)
    return PPOTrainer(
        args=PPOConfig(
            total_episodes=work.rows * told.pop("max_steps"),
            num_ppo_epochs=work.epochs,
            num_mini_batches=1,
            local_rollout_forward_batch_size=settings.rollout or work.micro,
            num_sample_generations=0,
            response_length=LONGEST_ANSWER,
            stop_token="eos",
            temperature=1.0,
            missing_eos_penalty=1.0,
            whiten_rewards=False,
            kl_coef=0.05,
            **told,
        ),
        processing_class=words(work),
        model=policy,
        ref_model=None if work.lora else causal(work, settings).to(frozen),
        reward_model=scalar(work, settings).to(frozen),
        value_model=value,
        # Twice, because accelerate has the optimiser step after every pass of a data set's last batch.
        train_dataset=Dataset.from_dict({"input_ids": texts(work).prompts * 2}),
        peft_config=adapters(work),
        callbacks=[clock(work)],
    )


def grouped(work: Work, settings: Settings, folder: str) -> Any:
    """RLOO or GRPO: all answers of a step are sampled at once and scored at once, by a model."""
    import trl
    from datasets import Dataset

    name = work.kind.upper()
    model = trained(causal(work, settings), settings)
    model.save_pretrained(folder)  # TRL reads its reference from where the model says that it comes from
    model.config._name_or_path = folder
    force_lengths(model, work)
    # Prompts end with a space because the reward model reads a prompt's text and an answer's joined.
    prompts = [text_of(prompt) + " " for prompt in texts(work).prompts]
    return getattr(trl, f"{name}Trainer")(
        model=model,
        reward_funcs=scalar(work, settings).to(model.dtype),
        reward_processing_classes=words(work),
        args=getattr(trl, f"{name}Config")(
            shuffle_dataset=False,
            num_generations=work.samples,
            num_iterations=work.epochs,
            max_completion_length=LONGEST_ANSWER,
            temperature=1.0,
            top_p=1.0,
            top_k=0,
            beta=0.04,
            generation_kwargs=settings.generation or None,
            **common(work, settings, folder, work.micro, work.epochs),
        ),
        train_dataset=Dataset.from_dict({"prompt": prompts}),
        processing_class=words(work),
        peft_config=adapters(work),
        callbacks=[clock(work, work.epochs)],
    )


# --- generation ---


def generate(work: Work, settings: Settings) -> None:
    """transformers' `generate` on its own, with weights in the work's precision.

    On a CPU its static cache is faster than its dynamic one, by about a tenth.
    """
    import torch
    from transformers import GenerationConfig

    model = causal(work, settings).to(getattr(torch, work.precision)).to(work.device).eval()
    force_lengths(model, work)
    told = GenerationConfig(
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        max_new_tokens=LONGEST_ANSWER,
        eos_token_id=END,
        pad_token_id=PAD,
        **({"cache_implementation": "static"} if work.device == "cpu" else {}) | settings.generation,
    )
    prompts, pad = texts(work).prompts, words(work).pad
    starts = iter(range(0, len(prompts), work.rows))

    def step() -> None:
        start = next(starts)
        batch = pad({"input_ids": prompts[start : start + work.rows]}, return_tensors="pt").to(work.device)
        with torch.inference_mode():
            model.generate(**batch, generation_config=told)

    ready()
    steps(step)


if __name__ == "__main__":
    main()
