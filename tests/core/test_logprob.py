from __future__ import annotations

import gc
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from heedful.core import logprob
from heedful.core.logprob import distribution, linear_logprob


def head(rows: int = 7, vocabulary: int = 11, width: int = 5, *, seed: int = 0, bias: bool = True) -> dict[str, Any]:
    """Random float64 inputs with gradient; tokens 1 and 4 are never targets, so that they can be banned."""
    make = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=make).requires_grad_()

    allowed = torch.tensor([token for token in range(vocabulary) if token not in (1, 4)])
    targets = allowed[torch.randint(len(allowed), (rows,), generator=make)]
    return {
        "hidden": draw(rows, width),
        "weight": draw(vocabulary, width),
        "targets": targets,
        "bias": draw(vocabulary) if bias else None,
    }


def plain(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    bias: Tensor | None = None,
    scale: float = 1.0,
    softcap: float | None = None,
    temperature: float = 1.0,
    banned: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The textbook: the whole softmax over the tokens that are left, by torch's own autograd."""
    logits = scale * (hidden @ weight.T + (0 if bias is None else bias))
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    kept = [v for v in range(weight.shape[0]) if banned is None or v not in banned.tolist()]
    p = torch.softmax(logits[:, kept].to(torch.promote_types(logits.dtype, torch.float32)) / temperature, -1)
    place = torch.tensor([kept.index(y) for y in targets.tolist()], dtype=torch.int64)
    return p.gather(1, place[:, None]).squeeze(1).log(), -(p * p.log()).sum(1)


BANNED = torch.tensor([4, 1])
SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "scale": {"scale": 0.37},
    "softcap": {"softcap": 1.5},
    "temperature": {"temperature": 0.6},
    "banned": {"banned": BANNED},
    "all": {"scale": 1.7, "softcap": 2.5, "temperature": 1.3, "banned": BANNED},
}
CHUNKS = [None, 1, 3, 7, 100]


class TestDistribution:
    def test_literal(self) -> None:
        logits = torch.tensor([[1.0, 2.0, 3.0], [0.0, -1.0, 5.0]])
        got = distribution(logits, temperature=0.5, banned=torch.tensor([1]))
        assert got.tolist() == [[2.0, -math.inf, 6.0], [0.0, -math.inf, 10.0]]
        assert logits.tolist() == [[1.0, 2.0, 3.0], [0.0, -1.0, 5.0]]

    def test_is_never_its_input(self) -> None:
        logits = torch.zeros(2, 3)
        distribution(logits, temperature=1.0, banned=None).add_(1)
        assert logits.tolist() == [[0.0] * 3] * 2

    def test_leaves_low_precision_at_once(self) -> None:
        got = distribution(torch.tensor([1.0, 2.0], dtype=torch.bfloat16), temperature=3.0, banned=None)
        assert got.dtype == torch.float32
        assert got.tolist() == pytest.approx([1 / 3, 2 / 3], rel=1e-6)

    def test_is_what_the_log_probabilities_are_of(self) -> None:
        given_head = head(40, 11, 5)
        with torch.no_grad():
            logits = given_head["hidden"] @ given_head["weight"].T + given_head["bias"]
            log_p = torch.log_softmax(distribution(logits, temperature=0.7, banned=BANNED), -1)
            logprobs, _ = linear_logprob(**given_head, temperature=0.7, banned=BANNED)
        expected = log_p.gather(1, given_head["targets"][:, None]).squeeze(1)
        assert torch.allclose(logprobs, expected, atol=1e-14)

    @pytest.mark.parametrize("temperature", [0.0, -1.0, math.inf, math.nan])
    def test_refuses_temperatures(self, temperature: float) -> None:
        with pytest.raises(ValueError, match="temperature"):
            distribution(torch.zeros(3), temperature=temperature, banned=None)

    def test_refuses_to_ban_everything(self) -> None:
        with pytest.raises(ValueError, match="every token"):
            distribution(torch.zeros(3), temperature=1.0, banned=torch.tensor([0, 2, 1]))

    @pytest.mark.parametrize("banned", [torch.tensor([3]), torch.tensor([-1])])
    def test_refuses_to_ban_what_does_not_exist(self, banned: Tensor) -> None:
        with pytest.raises(ValueError, match=r"0\.\.2"):
            distribution(torch.zeros(3), temperature=1.0, banned=banned)


class TestValues:
    def test_literal(self) -> None:
        # (1, 3) doubled is (2, 6); capped at 4: 4 tanh(1/2), 4 tanh(3/2); halved temperature: 3.6969, 7.2412
        logprobs, entropy = linear_logprob(
            torch.ones(2, 1),
            torch.tensor([[1.0], [2.0], [9.0]]),
            torch.tensor([0, 1]),
            bias=torch.tensor([0.0, 1.0, 0.0]),
            scale=2.0,
            softcap=4.0,
            temperature=0.5,
            banned=torch.tensor([2]),
        )
        assert logprobs.tolist() == pytest.approx([-3.5727296310, -0.0284808599], rel=1e-5)
        assert entropy.tolist() == pytest.approx([0.1280001876] * 2, rel=1e-5)

    @pytest.mark.parametrize("chunk", CHUNKS)
    @pytest.mark.parametrize("name", SETTINGS)
    @pytest.mark.parametrize("bias", [True, False])
    def test_values_and_gradients_are_the_textbook_ones(self, name: str, chunk: int | None, bias: bool) -> None:
        mine, theirs = head(bias=bias), head(bias=bias)
        make = torch.Generator().manual_seed(9)
        for_logprob, for_entropy = torch.randn(2, 7, dtype=torch.float64, generator=make)
        got = linear_logprob(**mine, **SETTINGS[name], chunk=chunk)
        expected = plain(**theirs, **SETTINGS[name])
        for one, other in zip(got, expected, strict=True):
            assert one.dtype == torch.float64
            assert torch.allclose(one, other, rtol=0, atol=1e-13)
        for logprobs, entropy in (got, expected):
            (logprobs @ for_logprob + entropy @ for_entropy).backward()
        for argument in ("hidden", "weight", "bias") if bias else ("hidden", "weight"):
            assert torch.allclose(mine[argument].grad, theirs[argument].grad, rtol=0, atol=1e-13), argument

    def test_uniform_entropy_is_the_log_of_what_is_left(self) -> None:
        _, entropy = linear_logprob(
            torch.zeros(1, 2), torch.zeros(10, 2), torch.tensor([0]), banned=torch.tensor([3, 8])
        )
        assert entropy.item() == pytest.approx(math.log(8), rel=1e-6)

    def test_certainty_has_no_entropy_and_no_nan(self) -> None:
        weight = torch.tensor([[1e4], [0.0], [-1e4]]).requires_grad_()
        logprobs, entropy = linear_logprob(torch.ones(2, 1), weight, torch.tensor([0, 2]))
        (logprobs + entropy).sum().backward()
        assert logprobs.tolist() == [0.0, -2e4]
        assert entropy.tolist() == [0.0, 0.0]
        assert torch.isfinite(weight.grad).all()

    @settings(deadline=None, max_examples=40)
    @given(
        rows=st.integers(0, 9),
        vocabulary=st.integers(5, 20),
        chunk=st.integers(1, 12),
        seed=st.integers(0, 1000),
        temperature=st.floats(0.1, 10),
    )
    def test_the_chunk_changes_nothing(
        self, rows: int, vocabulary: int, chunk: int, seed: int, temperature: float
    ) -> None:
        results = []
        for size in (None, chunk):
            inputs = head(rows, vocabulary, 3, seed=seed)
            logprobs, entropy = linear_logprob(**inputs, temperature=temperature, banned=BANNED, chunk=size)
            (logprobs.sum() + 0.5 * entropy.sum()).backward()
            results.append((logprobs, entropy, inputs["hidden"].grad, inputs["weight"].grad, inputs["bias"].grad))
        logprobs, entropy = results[0][:2]
        assert (logprobs <= 1e-12).all()
        assert (entropy >= -1e-12).all()
        assert (entropy <= math.log(vocabulary - 2) + 1e-9).all()
        for one, other in zip(*results, strict=True):
            assert torch.allclose(one, other, rtol=1e-9, atol=1e-10)


class TestGradients:
    @pytest.mark.parametrize("chunk", [None, 2])
    @pytest.mark.parametrize("name", SETTINGS)
    def test_finite_differences(self, name: str, chunk: int | None) -> None:
        inputs = head(5, 7, 3)
        targets = inputs.pop("targets")

        def run(hidden: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
            return linear_logprob(hidden, weight, targets, bias=bias, chunk=chunk, **SETTINGS[name])

        assert torch.autograd.gradcheck(run, tuple(inputs.values()))

    @pytest.mark.parametrize("which", [0, 1])
    @pytest.mark.parametrize("chunk", [None, 2])
    def test_each_output_alone(self, which: int, chunk: int | None) -> None:
        mine, theirs = head(), head()
        linear_logprob(**mine, banned=BANNED, chunk=chunk)[which].sum().backward()
        plain(**theirs, banned=BANNED)[which].sum().backward()
        for argument in ("hidden", "weight", "bias"):
            assert torch.allclose(mine[argument].grad, theirs[argument].grad, atol=1e-13)

    @pytest.mark.parametrize("frozen", ["hidden", "weight", "bias"])
    def test_frozen_inputs_get_none(self, frozen: str) -> None:
        mine, theirs = head(), head()
        mine[frozen].requires_grad_(False)
        linear_logprob(**mine, chunk=3)[0].sum().backward()
        plain(**theirs)[0].sum().backward()
        assert mine[frozen].grad is None
        for argument in {"hidden", "weight", "bias"} - {frozen}:
            assert torch.allclose(mine[argument].grad, theirs[argument].grad, atol=1e-13)

    def test_nothing_is_kept_when_no_gradient_is_asked_for(self) -> None:
        with torch.no_grad():
            logprobs, entropy = linear_logprob(**head())
        assert not logprobs.requires_grad
        assert not entropy.requires_grad

    @pytest.mark.parametrize("chunk", [None, 2])
    def test_backward_twice(self, chunk: int | None) -> None:
        inputs = head()
        loss = sum(x.sum() for x in linear_logprob(**inputs, **SETTINGS["all"], chunk=chunk))
        loss.backward(retain_graph=True)
        once = inputs["weight"].grad.clone()
        loss.backward()
        assert torch.equal(inputs["weight"].grad, 2 * once)

    def test_an_empty_batch_has_zero_gradients(self) -> None:
        inputs = head(0)
        logprobs, entropy = linear_logprob(**inputs)
        (logprobs.sum() + entropy.sum()).backward()
        assert logprobs.shape == (0,)
        assert torch.equal(inputs["weight"].grad, torch.zeros(11, 5, dtype=torch.float64))


class TestPrecision:
    @staticmethod
    def inputs() -> dict[str, Any]:
        return {
            name: value.detach().float().requires_grad_() if value.is_floating_point() else value
            for name, value in head(64, 50, 32).items()
        }

    @pytest.mark.parametrize("chunk", [None, 16])
    def test_autocast_multiplies_low_and_sums_high(self, chunk: int | None) -> None:
        mine, theirs = self.inputs(), self.inputs()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logprobs, entropy = linear_logprob(**mine, chunk=chunk)
            logits = torch.nn.functional.linear(theirs["hidden"], theirs["weight"], theirs["bias"])
            (logprobs.sum() + 0.3 * entropy.sum()).backward()
        assert logits.dtype == torch.bfloat16
        log_p = torch.log_softmax(logits.float(), -1)
        expected = log_p.gather(1, theirs["targets"][:, None]).squeeze(1)
        spread = -(log_p.exp() * log_p).sum(1)
        (expected.sum() + 0.3 * spread.sum()).backward()
        assert logprobs.dtype == entropy.dtype == torch.float32
        assert torch.allclose(logprobs, expected, rtol=0, atol=2e-5)
        assert torch.allclose(entropy, spread, rtol=0, atol=2e-5)
        for argument in ("hidden", "weight", "bias"):
            one, other = mine[argument].grad, theirs[argument].grad
            assert one.dtype == torch.float32
            assert (one - other).norm() < 0.01 * other.norm(), argument

    @pytest.mark.parametrize("chunk", [None, 16])
    def test_a_backward_pass_inside_autocast_keeps_the_forward_precision(self, chunk: int | None) -> None:
        mine, theirs = self.inputs(), self.inputs()
        logprobs, _ = linear_logprob(**mine, chunk=chunk)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logprobs.sum().backward()
        plain(**theirs)[0].sum().backward()
        for argument in ("hidden", "weight", "bias"):
            assert torch.allclose(mine[argument].grad, theirs[argument].grad, rtol=1e-4, atol=1e-4), argument

    def test_low_precision_weights(self) -> None:
        exact = self.inputs()
        low = {
            name: value.detach().bfloat16().requires_grad_() if value.is_floating_point() else value
            for name, value in exact.items()
        }
        logprobs, entropy = linear_logprob(**low, chunk=16)
        (logprobs.sum() + entropy.sum()).backward()
        assert logprobs.dtype == entropy.dtype == torch.float32
        assert low["weight"].grad.dtype == torch.bfloat16
        expected, _ = linear_logprob(**exact)
        assert (logprobs - expected).abs().max() < 0.2

    def test_the_weights_gradient_is_summed_in_float32(self) -> None:
        """In bfloat16 512 + 1 is 512: 1,000 rows of the same gradient would stop counting on the way."""
        hidden = torch.ones(1000, 1, dtype=torch.bfloat16)
        weight = torch.zeros(2, 1, dtype=torch.bfloat16).requires_grad_()
        linear_logprob(hidden, weight, torch.zeros(1000, dtype=torch.int64), chunk=1)[0].sum().backward()
        assert weight.grad.flatten().tolist() == [500.0, -500.0]

    def test_float64_stays_float64_under_autocast(self) -> None:
        inputs = head()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logprobs, _ = linear_logprob(**inputs)
        assert torch.allclose(logprobs, plain(**head())[0], atol=1e-13)


class _Largest(TorchDispatchMode):
    """Remembers the largest tensor that any operation gave."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(tensor, Tensor):
                self.numel = max(self.numel, tensor.numel())
        return out


class TestMemory:
    def largest(self, **more: Any) -> int:
        inputs = head(400, 64, 4)
        with _Largest() as watch:
            sum(x.sum() for x in linear_logprob(**inputs, **SETTINGS["all"], **more)).backward()
        return watch.numel

    def test_chunked_never_makes_all_logits(self) -> None:
        assert self.largest(chunk=10) == 400 * 4  # the hidden states themselves; 10 x 64 logits are less

    def test_the_size_decides_when_nobody_does(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(logprob, "CHUNK_ROWS", 10)
        monkeypatch.setattr(logprob, "CHUNK_LOGITS", 64 * 20)
        assert self.largest() == 400 * 4
        monkeypatch.setattr(logprob, "CHUNK_LOGITS", 2**23)
        assert self.largest() == 400 * 64

    def kept(self, **more: Any) -> int:
        """Numbers that live on between forward and backward, beyond inputs and results."""
        inputs = head(400, 64, 4)
        outputs = linear_logprob(**inputs, **more)
        gc.collect()
        given = {x.data_ptr() for x in (*inputs.values(), *outputs)}
        saved = outputs[0].grad_fn.saved_tensors  # type: ignore[union-attr]
        return sum(x.numel() for x in saved if x is not None and x.data_ptr() not in given)

    def test_small_ones_are_kept_and_large_ones_are_not(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(logprob, "KEEP_LOGITS", 400 * 64)
        assert self.kept() == 400 * 64 + 400
        monkeypatch.setattr(logprob, "KEEP_LOGITS", 400 * 64 - 1)
        assert self.kept() == 400

    def test_a_named_chunk_is_never_kept(self) -> None:
        assert self.kept(chunk=10) == 400


class TestRefusals:
    def test_a_banned_target_by_name_and_place(self) -> None:
        inputs = head()
        inputs["targets"][3] = 4
        with pytest.raises(ValueError, match="target 4 at position 3 is banned"):
            linear_logprob(**inputs, banned=BANNED)

    @pytest.mark.parametrize("token", [-1, 11, -100])
    def test_a_target_outside_the_vocabulary(self, token: int) -> None:
        inputs = head()
        inputs["targets"][0] = token
        with pytest.raises(ValueError, match=r"0\.\.10"):
            linear_logprob(**inputs)

    @pytest.mark.parametrize(
        ("change", "word"),
        [
            ({"targets": torch.zeros(6, dtype=torch.int64)}, "targets"),
            ({"targets": torch.zeros(7, dtype=torch.int32)}, "targets"),
            ({"hidden": torch.zeros(7, 4)}, "fit"),
            ({"hidden": torch.zeros(1, 7, 5)}, "fit"),
            ({"bias": torch.zeros(5)}, "bias"),
            ({"softcap": 0.0}, "softcap"),
            ({"chunk": 0}, "chunk"),
            ({"temperature": 0.0}, "temperature"),
            ({"banned": torch.tensor([[1]])}, "banned"),
        ],
    )
    def test_what_does_not_fit(self, change: dict[str, Any], word: str) -> None:
        with pytest.raises(ValueError, match=word):
            linear_logprob(**{**head(), **change})
