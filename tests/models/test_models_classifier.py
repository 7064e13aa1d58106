"""Sequence classifiers of the hub as rewards: what plain transformers scores, whatever company an answer keeps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, PreTrainedTokenizerFast

from architectures import WORDS, tiny_tokenizer
from heedful.data.records import Message
from heedful.errors import HeedfulError
from heedful.models.classifier import ClassifierReward
from heedful.models.fingerprint import source_fingerprint
from heedful.models.rewards import load_reward
from heedful.models.scalar import RewardModel

PROMPT = (Message("user", "what is the sky"),)
ANSWERS = ["the sky is blue", "no", "a cat and a dog and a bird or the sun can do it very well thank you", "red", "a"]

SPECIAL = ("[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]")
COMMON = {
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "initializer_range": 0.3,
}
ENCODERS: dict[str, dict[str, Any]] = {
    "bert": COMMON,
    "electra": COMMON | {"embedding_size": 32},
    "roberta": COMMON | {"pad_token_id": 0, "type_vocab_size": 1},
    "xlm-roberta": COMMON | {"type_vocab_size": 1},
    "deberta-v2": COMMON
    | {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 8, "type_vocab_size": 0},
    "distilbert": {
        "vocab_size": 64, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48, "max_position_embeddings": 64,
        "pad_token_id": 0, "initializer_range": 0.3,
    },
    "modernbert": COMMON | {"cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1, "eos_token_id": 2,
        "global_attn_every_n_layers": 1},
    "albert": COMMON | {"embedding_size": 16},
}  # fmt: skip
DECODERS = {
    "qwen2": COMMON | {"num_key_value_heads": 2},
    "falcon": {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "new_decoder_architecture": False, "initializer_range": 0.3},
    "opt": COMMON | {"ffn_dim": 48, "word_embed_proj_dim": 32, "do_layer_norm_before": True},
}  # fmt: skip


def encoder_tokenizer(**more: Any) -> Any:
    """[CLS] prompt [SEP] answer [SEP], as BERT and DeBERTa write a pair."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from tokenizers.processors import TemplateProcessing

    backend = Tokenizer(WordLevel({word: i for i, word in enumerate((*SPECIAL, *WORDS))}, unk_token="[UNK]"))
    backend.pre_tokenizer = WhitespaceSplit()
    backend.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", unk_token="[UNK]",
        mask_token="[MASK]", **more,
    )  # fmt: skip


def write_classifier(folder: Path, name: str, settings: dict[str, Any], tokenizer: Any, **more: Any) -> Path:
    """A random classifier as plain transformers saves it."""
    torch.manual_seed(3)
    config = AutoConfig.for_model(name, **settings, **{"num_labels": 1, **more})
    model = AutoModelForSequenceClassification.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0.0, 0.3)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@torch.no_grad()
def plainly(folder: Path, rows: list[Any]) -> list[float]:
    """What plain transformers scores, an answer at a time."""
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    return [float(model(**row).logits[0, 0]) for row in rows]


@pytest.mark.parametrize("name", sorted(ENCODERS))
def test_an_encoder_scores_as_in_plain_transformers_in_any_company(name: str, tmp_path: Path) -> None:
    inputs = ["input_ids", "attention_mask"] + (["token_type_ids"] if name in ("bert", "electra", "albert") else [])
    tokenizer = encoder_tokenizer(model_max_length=60, model_input_names=inputs)
    folder = write_classifier(tmp_path / name, name, ENCODERS[name], tokenizer)
    reward = load_reward(str(folder))
    assert isinstance(reward, ClassifierReward)
    together = reward([PROMPT] * 5, ANSWERS)
    plain = AutoTokenizer.from_pretrained(folder)
    rows = [plain(PROMPT[0].content, answer, return_tensors="pt") for answer in ANSWERS]
    assert set(rows[0]) == set(inputs)
    torch.testing.assert_close(together, torch.tensor(plainly(folder, rows)), atol=2e-5, rtol=0)
    assert together.std() > 1e-3
    assert not together.requires_grad
    for answer, score in zip(ANSWERS, together.tolist(), strict=True):
        assert float(reward([PROMPT], [answer])) == pytest.approx(score, abs=2e-5)
    reward.tokenizer.padding_side = "left"
    torch.testing.assert_close(reward([PROMPT] * 5, ANSWERS[::-1]).flip(0), together, atol=2e-5, rtol=0)


@pytest.mark.parametrize("name", sorted(DECODERS))
def test_a_decoder_with_a_score_is_a_reward_model(name: str, tmp_path: Path) -> None:
    folder = write_classifier(tmp_path / name, name, DECODERS[name], tiny_tokenizer())
    reward = load_reward(str(folder))
    assert isinstance(reward, RewardModel)
    rows = [{"input_ids": torch.tensor([reward.render(PROMPT, answer)])} for answer in ANSWERS]
    scores = reward([PROMPT] * 5, ANSWERS)
    torch.testing.assert_close(scores, torch.tensor(plainly(folder, rows)), atol=2e-5, rtol=0)
    assert scores.std() > 1e-3


def test_an_encoder_with_a_chat_template_reads_by_it(tmp_path: Path) -> None:
    tokenizer = encoder_tokenizer(model_max_length=60)
    tokenizer.chat_template = "{% for m in messages %}{{ m['role'] + ' ' + m['content'] + ' [SEP] ' }}{% endfor %}"
    reward = load_reward(str(write_classifier(tmp_path / "bert", "bert", COMMON, tokenizer)))
    read = tokenizer.decode(reward.render(PROMPT, "red")["input_ids"])
    assert read == "[UNK] what is the sky [SEP] [UNK] red [SEP]"


def test_a_completion_beyond_the_context_is_cut_and_a_prompt_beyond_it_refused(tmp_path: Path) -> None:
    folder = write_classifier(tmp_path / "bert", "bert", COMMON, encoder_tokenizer(model_max_length=12))
    reward = load_reward(str(folder))
    ids = reward.render(PROMPT, "red " * 40)["input_ids"]
    assert len(ids) == 12
    assert ids[-1] == 2
    with pytest.raises(HeedfulError, match="the prompt alone has 23 tokens, and the reward model reads 12"):
        reward([(Message("user", "red " * 20),)], ["blue"])


def test_roberta_reads_two_tokens_fewer_than_it_has_positions(tmp_path: Path) -> None:
    settings = COMMON | {"type_vocab_size": 1, "pad_token_id": 1, "max_position_embeddings": 20}
    tokenizer = encoder_tokenizer()
    tokenizer.pad_token = "[CLS]"
    reward = load_reward(str(write_classifier(tmp_path / "roberta", "roberta", settings, tokenizer)))
    assert reward.context_length == 18
    assert torch.isfinite(reward([PROMPT], ["red " * 40])).all()


@pytest.mark.parametrize(("name", "tokenizer"), [("bert", encoder_tokenizer), ("qwen2", tiny_tokenizer)])
def test_of_several_labels_one_is_named(name: str, tokenizer: Any, tmp_path: Path) -> None:
    settings = {**ENCODERS, **DECODERS}[name]
    more = {"num_labels": 3, "id2label": {0: "bad", 1: "middling", 2: "good"}}
    folder = write_classifier(tmp_path / name, name, settings, tokenizer(), **more)
    with pytest.raises(HeedfulError, match="3 labels: bad, middling, good") as caught:
        load_reward(str(folder))
    assert caught.value.mend == f"Name the one whose output is the reward: {folder}#good."
    with pytest.raises(HeedfulError, match=r"no label 'goood'. Did you mean 'good'"):
        load_reward(f"{folder}#goood")
    plain = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    for label, index in (("good", 2), ("0", 0)):
        reward = load_reward(f"{folder}#{label}")
        rendered = reward.render(PROMPT, "red")
        row = rendered if isinstance(rendered, dict) else {"input_ids": rendered}
        with torch.no_grad():
            theirs = float(plain(**{key: torch.tensor([value]) for key, value in row.items()}).logits[0, index])
        assert float(reward([PROMPT], ["red"])) == pytest.approx(theirs, abs=2e-5)
    assert source_fingerprint(f"{folder}#good") == source_fingerprint(str(folder)) != ""


def test_a_tokenizer_without_a_pad_token_is_named(tmp_path: Path) -> None:
    folder = write_classifier(tmp_path / "bert", "bert", COMMON, encoder_tokenizer())
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        path = folder / name
        if path.exists():
            found = json.loads(path.read_text())
            found.pop("pad_token", None)
            path.write_text(json.dumps(found))
    with pytest.raises(HeedfulError, match="no pad token"):
        load_reward(str(folder))
