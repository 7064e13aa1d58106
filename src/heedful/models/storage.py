"""Standard Hugging Face folders: open them without pickle or foreign code, and write them."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError

from heedful.data.held import held, is_held
from heedful.errors import HeedfulError, nearest
from heedful.models.adapters import merged_state, underlying

Precision = Literal["float32", "bfloat16"]
Stored = Literal["float32", "bfloat16", "nf4"]
"""Type of stored weights. nf4: 4 bits (QLoRA; Dettmers et al. 2023, arXiv 2305.14314), for a base that is frozen."""

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
)


def torch_dtype(name: Precision) -> torch.dtype:
    """The torch type of a name.

    Raises:
        HeedfulError: another name.
    """
    types = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    if name not in types:
        raise HeedfulError(f"no such type: {name!r}.", mend="Choose float32 or bfloat16.")
    return types[name]


def check_source(source: str) -> None:
    """Refuse a local model folder that is missing, holds no safetensors weights, or has no tokenizer.

    A source that is no path (a hub id, a model in memory) passes.

    Raises:
        HeedfulError: with the mend.
    """
    if is_held(source):
        held(source)
        return
    folder = Path(source).expanduser()
    if not folder.exists():
        path = source.startswith((".", "/", "~")) or source.count("/") > 1 or not source.strip()
        if path or ("/" in source and _like_folder(source)):  # a folder of models, and one of nearly that name in it
            raise HeedfulError(
                "there is no such model folder.",
                where=source,
                mend=_like_folder(source) or "Check the path; a hub id is written owner/name.",
            )
        return
    if not folder.is_dir():
        raise HeedfulError("a model is a folder, and this is a file.", where=source, mend="Give the folder it is in.")
    if not (folder / "config.json").exists():
        raise HeedfulError(
            "the folder has no config.json, so it is no Hugging Face model.",
            where=source,
            mend="Give the folder that save_pretrained or a heedful stage wrote.",
        )
    if not any(folder.glob("*.safetensors")):
        pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
        if pickles:
            raise HeedfulError(
                f"the weights are pickle files ({pickles[0]}), which can run code when opened: refused.",
                where=source,
                mend="Convert them to safetensors where you trust them: open the folder in transformers, "
                "call save_pretrained('new-folder') on model and tokenizer, and give the new folder.",
            )
        raise HeedfulError(
            "the folder has no weights (*.safetensors).", where=source, mend="Copy the folder again, whole."
        )
    if not any((folder / name).exists() for name in TOKENIZER_FILES):
        raise HeedfulError(
            "the model folder has no tokenizer.",
            where=source,
            mend="Save the tokenizer into it: tokenizer.save_pretrained(folder).",
        )


@contextmanager
def _quietly() -> Iterator[None]:
    """Without transformers' bars and remarks: what matters is checked and raised."""
    from transformers.utils import logging

    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def open_tokenizer(source: str, revision: str | None) -> Any:
    """The tokenizer of a model folder or hub id.

    Raises:
        HeedfulError: there is none, or it cannot be read.
    """
    from transformers import AutoTokenizer

    if is_held(source):
        return copy.deepcopy(held(source)[1])
    try:
        with _quietly():
            return AutoTokenizer.from_pretrained(source, revision=revision, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        raise HeedfulError(
            f"cannot open the tokenizer: {_first_line(error)}",
            where=source,
            mend="Check that the model has tokenizer files, and that the hub can be reached.",
        ) from error


def open_model(
    auto_class: Any,
    source: str,
    revision: str | None,
    dtype: Stored,
    *,
    device: torch.device | str = "cpu",
    **settings: Any,
) -> Any:
    """A model by an auto class of transformers: safetensors only, no foreign code, dropout off.

    It is on the CPU; with nf4 on `device`, the GPU that quantised it; or, where `device` is "meta", it has shapes
    alone, and no weight is read.

    Raises:
        HeedfulError: it cannot be read, weights of that class are missing or do not fit, or nf4 cannot be had here.
    """
    settings |= in_four_bits(device) if dtype == "nf4" else {"dtype": torch_dtype(dtype)}
    empty = torch.device(device).type == "meta"
    settings["output_loading_info"] = True
    try:
        with _quietly():
            config = settings.pop("config", None) or open_config(source, revision)
            switch_off_dropout(config)
            if is_held(source):
                model, report = _copied(held(source)[0], config, settings)
            elif empty:
                model, report = _emptied(auto_class, source, revision, config, settings["dtype"]), {"missing_keys": ()}
            else:
                model, report = auto_class.from_pretrained(
                    source, config=config, revision=revision, trust_remote_code=False, use_safetensors=True, **settings
                )
    except SafetensorError as error:
        raise HeedfulError(
            f"the weights are damaged ({_first_line(error)}).", where=source, mend="Copy or make them again."
        ) from error
    except (OSError, ValueError, KeyError, TypeError, ImportError, RuntimeError) as error:
        mend = "Check the name; the model needs safetensors weights, and no code of its own."
        raise HeedfulError(f"cannot open the model: {_first_line(error)}", where=source, mend=mend) from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise HeedfulError(
            f"weights that {type(model).__name__} needs are missing: {', '.join(missing[:3])}.",
            where=source,
            mend="Give the right kind: a policy is a causal language model, a reward model a classifier.",
        )
    return model


def _emptied(auto_class: Any, source: str, revision: str | None, config: Any, dtype: Any) -> Any:
    """A model on the meta device as its folder would make it. No file of weights is read; from_pretrained reads all."""
    from transformers import GenerationConfig

    with torch.device("meta"):
        made = auto_class.from_config(config, dtype=dtype)
    if made.can_generate():
        with suppress(OSError):  # it has none of its own
            made.generation_config = GenerationConfig.from_pretrained(source, revision=revision or "main")
    return made.eval()


def _copied(model: Any, config: Any, settings: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """A model like one in memory, with weights of its own, made as from a folder: of the type asked for, no dropout."""
    weights = {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
    made, report = type(model).from_pretrained(None, config=config, state_dict=weights, **settings)
    if model.can_generate():
        made.generation_config = copy.deepcopy(model.generation_config)
    return made, report


def in_four_bits(device: torch.device | str) -> dict[str, Any]:
    """What from_pretrained needs to store linear layers in NF4, twice quantised, and the rest in bfloat16.

    Raises:
        HeedfulError: `device` is no GPU, or bitsandbytes is not installed.
    """
    where = "loading.base_dtype"
    if torch.device(device).type != "cuda":
        raise HeedfulError(
            "a base of 4 bits needs a GPU.", where=where, mend="Use bfloat16, or run where there is a CUDA device."
        )
    if find_spec("bitsandbytes") is None:
        raise HeedfulError(
            "a base of 4 bits is made by bitsandbytes, which is not installed.",
            where=where,
            mend="Install heedful[qlora], or use bfloat16.",
        )
    from transformers import BitsAndBytesConfig

    quantised = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=torch.bfloat16,
        bnb_4bit_use_double_quant=True,
    )
    return {"dtype": torch.bfloat16, "quantization_config": quantised, "device_map": {"": device}}


def open_config(source: str, revision: str | None) -> Any:
    """The configuration of a model folder or hub id.

    Raises:
        HeedfulError: it cannot be read, or asks for code of its own.
    """
    from transformers import AutoConfig

    if is_held(source):
        model = held(source)[0]
        config = copy.deepcopy(model.config)
        config.architectures = [type(model).__name__]  # a model that was made in memory names none
        return config
    try:
        with _quietly():
            return AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, StrictDataclassError) as error:
        raise HeedfulError(
            f"cannot open the model's configuration: {_first_line(error)}",
            where=source,
            mend=_like_folder(source)
            or "Check the name, and that the hub can be reached; heedful runs no code of a model's own.",
        ) from error


def _like_folder(source: str) -> str:
    """A question whether the folder beside was meant whose name is nearest, where the source may be a path."""
    place = Path(source).expanduser()
    if place.exists() or not place.parent.is_dir():
        return ""
    return nearest(place.name, [one.name for one in place.parent.iterdir() if (one / "config.json").exists()])


def switch_off_dropout(config: Any) -> None:
    """Set every dropout probability of a configuration (and its nested ones) to zero."""
    for name, value in list(vars(config).items()):
        if isinstance(value, float) and ("dropout" in name or "pdrop" in name or name == "layerdrop"):
            setattr(config, name, 0.0)
        elif name.endswith("_config") and hasattr(value, "to_dict"):
            switch_off_dropout(value)


@torch.no_grad()
def fit_vocabulary(model: Any, tokenizer: Any) -> None:
    """Grow the embedding (and head) where the tokenizer's pad token was added beyond it.

    A new row is the mean of the old ones. A model with rows enough is left alone.

    Raises:
        HeedfulError: more than added tokens lies beyond the model: the tokenizer belongs to another one.
    """
    rows = model.get_input_embeddings().weight.shape[0]
    pad = int(tokenizer.pad_token_id)
    if pad < rows:
        return
    if pad >= rows + len(tokenizer.get_added_vocab()):
        raise HeedfulError(
            f"the tokenizer has {len(tokenizer)} tokens and the model only {rows} embeddings.",
            where=str(tokenizer.name_or_path),
            mend="Use the tokenizer that belongs to the model.",
        )
    model.resize_token_embeddings(pad + 1, mean_resizing=False)
    for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
        for parameter in (getattr(layer, "weight", None), getattr(layer, "bias", None)):
            if parameter is not None:
                parameter[rows:] = parameter[:rows].mean(0)


FILE = "5GB"
"""The most of a file of weights. As it is written, a file is copied once in main memory."""


def write_folder(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write weights (adapters merged), configuration, generation settings and tokenizer into a folder.

    Not atomic by itself: call it inside `heedful.files.artifact`.

    Raises:
        HeedfulError: the weights cannot be written.
        OSError: the folder cannot be written, or the disk is full (`artifact` explains it).
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with _quietly():
            _write_weights(model, folder)
            tokenizer.save_pretrained(folder)
    except SafetensorError as error:
        raise HeedfulError(
            f"cannot write the weights: {_first_line(error)}.",
            where=str(folder),
            mend="Free some space or choose another --out, and run the same command again.",
        ) from error


def _write_weights(model: Any, folder: Path) -> None:
    merged = merged_state(model)
    if merged is None:
        model.save_pretrained(folder, max_shard_size=FILE)
        return
    shown = copy.copy(underlying(model))  # the weights are merged ones, float32, whatever the base is stored in
    shown.config = copy.deepcopy(shown.config)
    shown.hf_quantizer = None
    if hasattr(shown.config, "quantization_config"):
        del shown.config.quantization_config
    shown.save_pretrained(folder, state_dict=merged, max_shard_size=FILE)
    shown.config.dtype = "float32"
    shown.config.save_pretrained(folder)


def hash_tensors(digest: Any, tensors: Iterable[tuple[str, torch.Tensor]]) -> None:
    """Feed a hash of hashlib with tensors in the order of their names: name, type, shape and bytes of each."""
    for name, tensor in sorted(tensors, key=lambda pair: pair[0]):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)


_INCIDENTAL = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures")


def content_of(config: Any) -> dict[str, str]:
    """What a configuration says of the model, without where it came from and how it is stored."""
    return {key: str(value) for key, value in config.to_dict().items() if key not in _INCIDENTAL}
