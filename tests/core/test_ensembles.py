"""One score from several: explicit numbers."""

from __future__ import annotations

import pytest
import torch

from heedful.core.ensembles import mean_score, uncertainty_penalised, worst_case

SCORES = torch.tensor([[1.0, -2.0, 0.0], [3.0, -2.0, 1.0], [5.0, -2.0, 5.0]])


def test_explicit_numbers() -> None:
    assert mean_score(SCORES).tolist() == [3.0, -2.0, 2.0]
    assert worst_case(SCORES).tolist() == [1.0, -2.0, 0.0]
    # unbiased variances: 4, 0 and (4 + 1 + 9) / 2 = 7
    assert uncertainty_penalised(SCORES, 0.5).tolist() == [1.0, -2.0, -1.5]
    assert uncertainty_penalised(SCORES, 0.0).tolist() == mean_score(SCORES).tolist()


def test_what_is_no_ensemble_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 members"):
        uncertainty_penalised(SCORES[:1], 0.1)
    with pytest.raises(ValueError, match="negative"):
        uncertainty_penalised(SCORES, -0.1)
    with pytest.raises(ValueError, match="members, answers"):
        mean_score(SCORES[0])
