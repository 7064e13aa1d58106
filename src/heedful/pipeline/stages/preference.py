"""`heedful dpo`: learning from preferences without a reward model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from heedful.data.load import Loaded, kind_of, load_labelled, load_preferences
from heedful.data.records import Labelled, Preference
from heedful.errors import HeedfulError
from heedful.models.callables import names_function
from heedful.models.fingerprint import source_fingerprint
from heedful.models.policy import Policy, moving_reference_of
from heedful.pipeline.label_report import labels_of
from heedful.pipeline.preference_report import preference_report, read_metrics
from heedful.pipeline.report import write_report
from heedful.pipeline.stages.common import (
    checkpointing,
    compiling,
    conclude,
    data_spec,
    open_policy,
    opened,
    prepared,
    prompts_of,
    resume,
    texts_of,
    watched_samples,
)
from heedful.training.batching import total_steps
from heedful.training.config.online_dpo import OnlineDPOConfig
from heedful.training.config.preference import DPOConfig
from heedful.training.folders import METRICS
from heedful.training.pairs import JudgedAnswers, make_labelled, make_pairs, mismatched, preferred_first
from heedful.training.preference import Objective, PreferenceData, check_records, dpo, evaluate_dpo, preference_state
from heedful.training.preference_losses import LOSSES, Mixture, read_mixture
from heedful.training.progress import Display
from heedful.training.reference import CACHE, LogprobCache, MovingReference
from heedful.training.run import Intervene, Watch, no_intervention
from heedful.training.shared_prompt import can_share
from heedful.training.workers import current

REPORT = "report.html"


def run_dpo(
    config: DPOConfig, display: Display | None = None, intervene: Callable[[Policy], Intervene] | None = None
) -> dict[str, Any]:
    """`heedful dpo`: direct preference optimisation and its kin; returns the manifest of the run.

    Args:
        intervene: makes what may step in while the run goes, from its policy.
    """
    with opened("dpo", config, display) as stage:
        if isinstance(stage, dict):
            return stage
        config = stage.config
        mixture = read_mixture(config.loss, config.loss_settings)
        loaded = load_judged(config, mixture)
        policy = open_policy(config.model, config, stage.out, texts_of(loaded.records))
        records, held_out = prepared(loaded, policy, config, stage.display)
        pairs, evaluation = (render_judged(some, policy, config) for some in (records, held_out))
        shares = config.memory.share_prompt == "auto"
        cache = LogprobCache(cache_folder(config), policy, config.memory.tokens, stage.display.say, share=shares)
        if current().shards and mixture.anchored:
            cache.identify()
        stage.part(policy)
        objective = open_objective(policy, mixture, pairs, config)
        for some in (pairs, evaluation):
            check_records(objective, some)
        data = preference_data(objective, pairs, pairs, config, cache)
        held = preference_data(objective, evaluation, pairs, config, cache)
        total = total_steps(len(pairs), config.batch_size, config.epochs)
        state = preference_state(policy, config.optimiser, total, config.seed, objective.moving)
        resume(stage, loaded.describe(), state, own_losses(mixture))
        checkpointing(policy, config)
        compiling(config, policy, *([objective.moving.policy] if objective.moving else []))
        watched = prompts_of(held_out or records)
        watch = Watch(
            evaluate=lambda: evaluate_dpo(policy, objective.at(state.tokens(config.memory)), held, state),
            sample=lambda: watched_samples(policy, watched, config.records.max_length),
            intervene=intervene(policy) if intervene else no_intervention,
        )
        shown = ("loss", "margin", "accuracy", "held_out_accuracy")
        figures = stage.train(dpo(state, policy, objective, data, config), state, total, shown, watch)

        def save(folder: Path) -> None:
            policy.save(folder)
            rows = read_metrics(stage.out / METRICS)
            fixed = mixture.anchored and objective.moving is None
            labels = labels_of([one for one in loaded.records if isinstance(one, Preference)])
            title = f"dpo: {config.loss}"
            report = preference_report(title, rows, mixture.beta, against_start=fixed, labels=labels)
            write_report(folder / REPORT, report)

        more = {"loss": mixture.describe()}
        done = conclude(stage, state, save, figures, loaded.describe(), more)
        stage.display.say(f"report: {stage.out / REPORT}")
        return done


def load_judged(config: DPOConfig, mixture: Mixture) -> Loaded[Any]:
    """Preferences; or labelled answers, where the data are such and every loss is one on single answers.

    Raises:
        HeedfulError: labelled answers for a loss on pairs, or as `load_preferences`.
    """
    spec = data_spec(config.data, config.records)
    if kind_of(spec) != "labelled":
        return load_preferences(spec)
    if not mixture.paired:
        return load_labelled(spec)
    single = ", ".join(name for name, loss in LOSSES.items() if not loss.paired)
    raise HeedfulError(
        f"these are single answers with labels, and {config.loss} compares two answers.",
        where=config.data,
        mend=f"Give preferences, or one of the losses on single answers: {single}.",
    )


def open_objective(policy: Policy, mixture: Mixture, records: JudgedAnswers, config: DPOConfig) -> Objective:
    """What the run minimises, with the reference that it moves, if it does, and whether prompts are shared.

    Raises:
        HeedfulError: a moving reference for a loss that needs none.
    """
    budget = config.memory.tokens
    moving = moving_reference(policy, mixture, config)
    tried = not policy.sharded or policy.precision == "float32"  # parts that run in bfloat16 are no float32 to try
    later = config.memory.gradient_checkpointing or config.loading.compile
    share = config.memory.share_prompt == "auto" and tried and can_share(policy, records, budget, later=later)
    return Objective(mixture, budget, moving, config.use_margin, config.weighting == "wpo", share)


def moving_reference(policy: Policy, mixture: Mixture, config: DPOConfig | OnlineDPOConfig) -> MovingReference | None:
    """The reference of a run where it follows the policy, else None.

    Raises:
        HeedfulError: it is to follow for a loss that needs none.
    """
    settings = config.reference
    if settings.update == "fixed":
        return None
    if not mixture.anchored:
        raise HeedfulError(f"{config.loss} needs no reference.", where="reference.update", mend="Leave it at fixed.")
    follower = moving_reference_of(policy)
    shares = config.memory.share_prompt == "auto"
    return MovingReference(follower, settings.share, settings.steps, config.memory.tokens, shares)


def render_judged(
    records: Sequence[Preference] | Sequence[Labelled], policy: Policy, config: DPOConfig
) -> JudgedAnswers:
    """Records as tokens."""
    length = config.records.max_length
    labelled = [record for record in records if isinstance(record, Labelled)]
    if labelled:
        return make_labelled(labelled, policy.tokenizer, length)
    compared = [record for record in records if isinstance(record, Preference)]
    pairs = make_pairs(compared, policy.tokenizer, config.labels, length)
    return preferred_first(pairs, "use_margin") if config.use_margin else pairs


def preference_data(
    objective: Objective, records: JudgedAnswers, pool: JudgedAnswers, config: DPOConfig, cache: LogprobCache
) -> PreferenceData:
    """Records with their log-probabilities under a fixed reference, and with partners from `pool` where asked for."""
    moved: JudgedAnswers = ()
    if objective.mixture.asks("kl"):
        moved = mismatched(records, pool, config.seed, config.records.max_length)
    if objective.moving is not None or not objective.mixture.anchored:
        return PreferenceData(records, moved)
    return PreferenceData(records, moved, cache.logprobs(records), cache.logprobs(moved))


def cache_folder(config: DPOConfig) -> Path | None:
    """Where log-probabilities of the reference are kept."""
    if config.reference.cache == "none":
        return None
    return Path(config.out).parent / CACHE if config.reference.cache == "auto" else Path(config.reference.cache)


def own_losses(mixture: Mixture) -> dict[str, str]:
    """Hashes of the modules of the user's own losses, by the loss."""
    names = [loss.name for _, loss in mixture.terms if names_function(loss.name)]
    return {f"loss {name}": source_fingerprint(name) for name in names}
