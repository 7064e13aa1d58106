"""Losses are read from signatures; mixtures, soft labels, ties and weights follow stated rules."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from heedful.core.answers import Anchored, Answers
from heedful.core.pair_losses import whole_batch
from heedful.errors import HeedfulError
from heedful.training.preference_losses import LOSSES, Judged, Measured, PreferenceLoss, read_loss, read_mixture

NAMES = (
    "sigmoid cdpo robust ipo ipo-mean hinge dpo-norm r-dpo orpo simpo cpo exo nca apo-zero apo-down sppo-hard aot "
    "aot-unpaired discopop kto bco sft"
)
MEASURED = Measured(kl=torch.tensor(0.3), ratio=torch.tensor(0.4))


def t(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def judged(probability: Tensor, margin: Tensor | None = None) -> Judged:
    logprob = torch.stack([t(-10, -7, -12.5), t(-12, -6, -9)])
    reference = torch.stack([t(-11, -8, -11), t(-11.5, -7, -10)])
    return Judged(logprob, torch.tensor([[5, 3, 6], [4, 2, 7]]), reference, probability, margin)


def swapped(whole: Judged, rows: list[int]) -> Judged:
    """The same records with the answers of some rows exchanged, labels too."""
    columns = torch.arange(whole.probability.shape[0])
    side = torch.zeros_like(columns)
    side[rows] = 1

    def turn(values: Tensor) -> Tensor:
        return torch.stack([values[side, columns], values[1 - side, columns]])

    assert whole.reference is not None
    probability = torch.where(side == 1, 1 - whole.probability, whole.probability)
    return Judged(turn(whole.logprob), turn(whole.length), turn(whole.reference), probability)


def test_the_table_has_every_loss_of_the_issue() -> None:
    assert list(LOSSES) == NAMES.split()


def test_what_a_signature_says() -> None:
    assert LOSSES["sigmoid"].anchored
    assert LOSSES["sigmoid"].asks == {"margin", "probability"}
    assert not LOSSES["orpo"].anchored
    assert LOSSES["orpo"].settings == {"weight": 0.1}
    assert LOSSES["exo"].asks == {"probability"}
    assert not LOSSES["kto"].paired
    assert LOSSES["kto"].asks == {"kl"}
    assert LOSSES["bco"].asks == {"shift"}
    assert [name for name, loss in LOSSES.items() if loss.whole_batch] == ["aot", "aot-unpaired"]
    assert [name for name, loss in LOSSES.items() if not loss.anchored] == ["orpo", "simpo", "cpo", "sft"]


class TestReading:
    def test_a_mixture_with_weights_and_settings(self) -> None:
        mixture = read_mixture("apo_zero + 0.25*sft+1e-1 * cdpo", {"beta": 0.3, "epsilon": 0.2, "gamma": None})
        assert mixture.describe() == [
            {"loss": "apo-zero", "weight": 1.0, "beta": 0.3},
            {"loss": "sft", "weight": 0.25},
            {"loss": "cdpo", "weight": 0.1, "beta": 0.3, "epsilon": 0.2},
        ]
        assert mixture.paired
        assert mixture.anchored
        assert mixture.beta == 0.3

    def test_left_out_settings_are_the_losss_own(self) -> None:
        assert read_mixture("sigmoid").beta == 0.1
        assert read_mixture("dpo-norm").beta == 5.0
        assert read_mixture("sft").beta == 1.0

    @pytest.mark.parametrize(
        ("text", "settings", "said"),
        [
            ("sigmod", {}, r"no loss 'sigmod'.*'sigmoid'"),
            ("sigmoid + ", {}, "cannot read"),
            ("0*sft", {}, "weights above 0"),
            ("-1*sft", {}, "cannot read"),
            ("1.2.3*sft", {}, "cannot read"),
            ("", {}, "cannot read"),
            ("sigmoid", {"gamma": 1.0}, r"no loss of 'sigmoid' reads gamma.*simpo"),
            ("orpo", {"beta": 0.1}, "reads beta"),
            ("cdpo", {"epsilon": 0.5}, "epsilon must be above 0 and below 0.5"),
            ("no_such_module:f", {}, "cannot import"),
            ("math:sqrt", {}, "signature|answers are not"),
            ("simpo", {"gamma": math.nan}, "gamma is nan"),
            ("sigmoid", {"beta": math.inf}, "beta is inf"),
            ("kto", {"desirable": -3.0}, "desirable must be above 0"),
            ("orpo", {"weight": -3.0}, "weight must be above 0"),
            ("sigmoid + 1e400*sft", {}, "as a loss"),
        ],
    )
    def test_refusals(self, text: str, settings: dict[str, float], said: str) -> None:
        with pytest.raises(HeedfulError, match=said):
            read_mixture(text, settings)

    def test_a_loss_of_ones_own(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "own_gap.py").write_text(
            "from heedful.core.answers import Anchored\n\n"
            "def gap(a: Anchored, b: Anchored, *, beta: float = 0.5):\n"
            "    return -beta * (a.ratio - b.ratio)\n"
        )
        monkeypatch.chdir(tmp_path)
        mixture = read_mixture("own_gap:gap", {"beta": 2.0})
        losses = mixture(judged(t(1, 0, 0.75)), Measured())
        # D is 1.5, 0 and -2.5; the label of the second is turned round, the third is 3/4 - 1/4 of the way
        assert losses.tolist() == pytest.approx([-3.0, 0.0, 2.5])

    @pytest.mark.parametrize(
        ("definition", "said"),
        [
            ("def f(x: Anchored, y: Anchored): ...", "answers are not"),
            ("def f(a: Anchored, b: Answers): ...", "answers are not"),
            ("def f(a, b): ...", "answers are not"),
            ("def f(a: Anchored, b: Anchored, *, beta: float): ...", "'beta' has no default"),
            ("def f(a: Anchored, b: Anchored, *, kl: Tensor): ...", "cannot ask for 'kl'"),
            ("def f(answer: Anchored, good: bool, *, margin: Tensor): ...", "cannot ask for 'margin'"),
            ("def f(answer: Answers, good: bool, *, kl: Tensor): ...", "against a reference"),
            ("def f(a: Missing, b: Missing): ...", "cannot read the signature"),
            ("def f(a: Anchored, b: Anchored, *, margin: Tensor): ...", "margin is not always there"),
            ("@whole_batch\ndef f(answer: Anchored, good: bool): ...", "of the whole batch takes two answers"),
            ("@whole_batch\ndef f(a: Anchored, b: Anchored, *, probability: Tensor): ...", "and no probability"),
        ],
    )
    def test_signatures_that_are_no_loss(self, definition: str, said: str) -> None:
        space: dict[str, object] = {"Anchored": Anchored, "Answers": Answers, "Tensor": Tensor}
        space["whole_batch"] = whole_batch
        exec(f"from __future__ import annotations\n{definition}", space)
        with pytest.raises(HeedfulError, match=said):
            read_loss("f", space["f"])  # type: ignore[arg-type]

    def test_a_loss_that_averages_by_itself(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "own_mean.py").write_text(
            "from heedful.core.answers import Answers\n\n"
            "def averaged(a: Answers, b: Answers):\n    return (b.logprob - a.logprob).mean()\n"
        )
        monkeypatch.chdir(tmp_path)
        with pytest.raises(HeedfulError, match=r"\[\] for two records"):
            read_mixture("own_mean:averaged")


PLAIN = [name for name, loss in LOSSES.items() if not loss.whole_batch]


class TestLabels:
    @pytest.mark.parametrize("name", PLAIN)
    def test_two_of_three_votes_are_two_pairs_and_one_turned_round(self, name: str) -> None:
        mixture = read_mixture(name)
        split = mixture(judged(t(2 / 3, 2 / 3, 2 / 3)), MEASURED)
        plain = mixture(judged(t(1, 1, 1)), MEASURED)
        turned = mixture(judged(t(0, 0, 0)), MEASURED)
        if name == "exo":  # a divergence from the label itself: docs/losses.md
            assert split.tolist() != pytest.approx(((2 * plain + turned) / 3).tolist())
        else:
            assert split.tolist() == pytest.approx(((2 * plain + turned) / 3).tolist())

    @pytest.mark.parametrize("name", PLAIN)
    def test_it_does_not_matter_which_answer_is_called_a(self, name: str) -> None:
        mixture = read_mixture(name)
        whole = judged(t(1, 0.3, 0.5))
        turned = mixture(swapped(whole, [0, 1, 2]), MEASURED)
        assert mixture(whole, MEASURED).tolist() == pytest.approx(turned.tolist())

    def test_a_tie_counts_half_either_way(self) -> None:
        # l(0.15) and l(-0.15) of sigmoid at beta 0.1 and D = 1.5
        value = read_mixture("sigmoid")(judged(t(0.5, 1, 1)), Measured())[0].item()
        assert value == pytest.approx((0.6209570478 + 0.7709570478) / 2)

    def test_a_hard_label_never_looks_the_other_way(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "own_exponential.py").write_text(
            "import torch\nfrom heedful.core.answers import Anchored\n\n"
            "def exponential(a: Anchored, b: Anchored):\n    return torch.exp(-1000 * (a.ratio - b.ratio))\n"
        )
        monkeypatch.chdir(tmp_path)
        losses = read_mixture("own_exponential:exponential")(judged(t(1, 1, 0)), Measured())
        assert losses.tolist() == [0.0, 1.0, 0.0]  # the other way round the first is infinite

    def test_margins_are_taken_as_they_are(self) -> None:
        losses = read_mixture("hinge")(judged(t(1, 1, 1), margin=t(0.5, 0, 2)), Measured())
        assert losses.tolist() == pytest.approx([1 - (0.15 - 0.5), 1.0, 1 - (-0.25 - 2)])

    def test_the_whole_batch_is_turned_to_the_winner(self) -> None:
        mixture = read_mixture("aot", {"beta": 1.0})
        whole = judged(t(1, 0, 1))
        assert mixture(whole, Measured()).tolist() == pytest.approx(mixture(swapped(whole, [1]), Measured()).tolist())
        other = mixture(judged(t(1, 1, 1)), Measured()).tolist()
        assert mixture(judged(t(1, 0, 0)), Measured()).tolist() != pytest.approx(other)

    def test_a_tie_enters_a_whole_batch_both_ways_round(self) -> None:
        @whole_batch
        def spread(a: Anchored, b: Anchored) -> Tensor:
            return (a.ratio - b.ratio).sort().values * torch.arange(len(a.ratio))

        loss = read_loss("spread", spread)
        assert isinstance(loss, PreferenceLoss)
        assert loss.whole_batch
        mixture = read_mixture("sigmoid")
        mixture = type(mixture)(((1.0, loss),))
        # D: 1.5 as it is and turned, 0 twice, -2.5 twice; sorted times 0..5, mean over six
        found = mixture(judged(t(0.5, 1, 1)), Measured())
        assert found.tolist() == pytest.approx([(-2.5 * 1 - 1.5 * 2 + 1.5 * 5) / 6] * 3)


class TestMixtures:
    def test_a_weighted_sum(self) -> None:
        whole = judged(t(1, 0.25, 0.5))
        parts = [read_mixture(name)(whole, Measured()) for name in ("sigmoid", "hinge")]
        mixed = read_mixture("0.5*sigmoid + 2*hinge")(whole, Measured())
        assert mixed.tolist() == pytest.approx((0.5 * parts[0] + 2 * parts[1]).tolist())

    def test_beside_a_loss_on_pairs_both_answers_are_summed_and_alone_they_are_averaged(self) -> None:
        whole = judged(t(0.75, 1, 0))
        alone = read_mixture("sft")(whole, Measured())
        # 3/4 of the first answer's 10/5 and 1/4 of the second's 12/4, over two answers
        assert alone[0].item() == pytest.approx((0.75 * 2 + 0.25 * 3) / 2)
        assert alone[1:].tolist() == pytest.approx([7 / 3 / 2, 9 / 7 / 2])
        beside = read_mixture("sigmoid + sft")(whole, Measured()) - read_mixture("sigmoid")(whole, Measured())
        assert beside.tolist() == pytest.approx((2 * alone).tolist())

    def test_labelled_answers_one_by_one(self) -> None:
        one = Judged(t(-10, -7)[None], torch.tensor([[5, 7]]), None, t(1, 0))
        assert read_mixture("sft")(one, Measured()).tolist() == [2.0, 0.0]

    def test_bcos_shift_is_beta_times_the_mean_ratio(self) -> None:
        one = Judged(t(-10)[None], torch.tensor([[5]]), t(-12)[None], t(1))
        losses = read_mixture("bco", {"beta": 0.5})(one, Measured(ratio=torch.tensor(3.0)))
        assert losses.item() == pytest.approx(math.log(1 + math.exp(-(0.5 * 2 - 0.5 * 3))))

    def test_ktos_baseline_is_measured_not_its_own(self) -> None:
        one = Judged(t(-10)[None], torch.tensor([[5]]), t(-12)[None], t(0))
        losses = read_mixture("kto", {"beta": 0.5, "undesirable": 3.0})(one, Measured(kl=torch.tensor(1.0)))
        assert losses.item() == pytest.approx(3 * (1 - 1 / (1 + math.exp(-0.5 * (1 - 2)))))
