"""What every stage's settings have in common, as one type."""

from __future__ import annotations

from typing import TypeAlias

from heedful.training.config.online import OnlineConfig
from heedful.training.config.preference import DPOConfig
from heedful.training.config.reward import RewardConfig
from heedful.training.config.sft import SFTConfig

StageConfig: TypeAlias = SFTConfig | RewardConfig | OnlineConfig | DPOConfig
