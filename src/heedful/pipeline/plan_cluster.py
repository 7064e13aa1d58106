"""What a stage will need of GPUs that are not at hand, and what would make it fit.

As in `heedful.pipeline.plan` only configurations are read, and passes are rehearsed (`heedful.pipeline.plan_troupe`).
`cluster_planner` adds up.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from heedful.errors import HeedfulError
from heedful.pipeline.cluster_plan import SHARE, ClusterPlan
from heedful.pipeline.cluster_planner import ClusterPlanner
from heedful.pipeline.plan import gibibytes
from heedful.pipeline.plan_troupe import Troupe
from heedful.training.config.cluster import ClusterConfig
from heedful.training.config.online import OnlineConfig
from heedful.training.config.stage import StageConfig


def plan_cluster(stage: str, config: StageConfig, cluster: ClusterConfig) -> ClusterPlan:
    """What a stage with these settings needs on these GPUs; with what would make it fit, where it does not.

    Raises:
        HeedfulError: a model's configuration cannot be read.
    """
    adapters = config.loading.lora_rank > 0
    if adapters and cluster.layout == "sharded":
        raise HeedfulError(
            "adapters, whose base is frozen, do not go with launch.shard.",
            where="cluster.layout",
            mend="Leave one of the two out.",
        )
    troupe, undecided = Troupe(config), cluster.layout == "auto" and not adapters
    made = ClusterPlanner(
        stage, troupe, replace(cluster, layout="replicas") if cluster.layout == "auto" else cluster
    ).plan()
    if not made.fits and undecided and cluster.count > 1:
        made = ClusterPlanner(stage, troupe, replace(cluster, layout="sharded")).plan()
    return made if made.fits else replace(made, mends=tuple(_mends(stage, troupe, cluster, made)))


def _mends(stage: str, troupe: Troupe, cluster: ClusterConfig, made: ClusterPlan) -> list[str]:
    """Flags each of which makes a plan fit; several together where none does alone."""
    config: Any = troupe.config  # each kind of settings has its own memory block, with the same fields
    number, kind = cluster.count, (cluster.gpus or "").partition("x")[2]
    settled: Any = "sharded" if made.layout == "sharded" else "replicas"
    troupes: dict[int, Troupe] = {id(config): troupe}
    again = replace(config, memory=replace(config.memory, gradient_checkpointing=True))
    tries: list[tuple[str, Any, ClusterConfig]] = []
    if made.layout == "replicas" and cluster.count > 1 and not config.loading.lora_rank:
        tries.append(("--cluster.layout sharded", config, replace(cluster, layout="sharded")))
    if made.layout == "sharded" and not isinstance(config, OnlineConfig) and config.run.sample_every > 0:
        silent = replace(config, run=replace(config.run, sample_every=0))
        tries.append(("--run.sample-every 0", silent, replace(cluster, layout=settled)))
        both = replace(silent, memory=again.memory)
        tries.append(("--run.sample-every 0 --memory.gradient-checkpointing", both, replace(cluster, layout=settled)))
    if isinstance(config, OnlineConfig) and made.worst == "rollouts":
        rows = ClusterPlanner(stage, troupe, replace(cluster, layout=settled)).at_once()
        for most in sorted({max(1, rows // 2), max(1, rows // 8)}, reverse=True):
            few = replace(config, rollout=replace(config.rollout, max_batch=most))
            tries.append((f"--rollout.max-batch {most}", few, replace(cluster, layout=settled)))
    checkpointing = "--memory.gradient-checkpointing"
    if not config.memory.gradient_checkpointing:
        tries.append((checkpointing, again, replace(cluster, layout=settled)))
    for base in ("bfloat16", "nf4"):
        flags = f"--loading.lora-rank 16 --loading.base-dtype {base}"
        loading = replace(config.loading, lora_rank=16, base_dtype=base, precision="auto")
        if config.loading.base_dtype != base:
            small = replace(config, loading=loading)
            both = replace(small, memory=again.memory)
            where = replace(cluster, layout="replicas")
            tries += [(flags, small, where), (f"{flags} {checkpointing}", both, where)]
    for times in (2, 4, 8):
        if not config.loading.lora_rank:
            more = replace(cluster, gpus=f"{number * times}x{kind}", layout="sharded")
            tries.append((f"--gpus {number * times}x{kind}", config, more))
            tries.append((f"--gpus {number * times}x{kind} {checkpointing}", again, more))
    found: list[str] = []
    for flags, settings, where in tries:
        known = tuple(one.partition(" ")[0] if one.startswith("--rollout") else one for one in found)
        if flags.startswith(known) or (found and flags.startswith("--gpus")):
            continue
        players = troupes.setdefault(id(settings), Troupe(settings))
        planner = ClusterPlanner(stage, players, where)
        if not planner.hopeless and planner.plan().fits:
            found.append(flags)
    return found


def lacking(made: ClusterPlan) -> str:
    """What a plan that does not fit lacks, and what would make it fit."""
    what = (
        f"{made.stage} needs about {gibibytes(made.total)} of each GPU, and {SHARE:.0%} of one is "
        f"{gibibytes(int(SHARE * made.memory))}"
    )
    if not made.mends:
        return f"{what}; neither checkpointing, adapters nor eight times the GPUs make it fit"
    return f"{what}. It fits with " + ", or with ".join(made.mends)
