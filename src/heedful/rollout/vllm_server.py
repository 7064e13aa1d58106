"""A vLLM server as a sampler: what it has to be, tokens with their log-probabilities, and which weights they are of.

Written from vLLM 0.33: `/v1/completions` with `return_token_ids` and `return_weight_versions`, and the routes of its
reinforcement-learning API (`vllm/entrypoints/rl`), which a server has where VLLM_SERVER_DEV_MODE is 1.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx2

from heedful.core.seeds import mix
from heedful.errors import HeedfulError
from heedful.rollout.types import RolloutParams

T = TypeVar("T")

BAN = -100.0
"""Bias of a banned token's logit: as much as the protocol allows, a factor of e^-100."""

AT_ONCE = 4096
"""Sequences asked for at once where nobody says how many; the server queues what it has no room for."""

CONNECTIONS = 512
"""Requests at once: each is a file of this process, which may often have no more than 1,024."""

START = (
    "VLLM_SERVER_DEV_MODE=1 vllm serve MODEL --logprobs-mode processed_logprobs --generation-config vllm "
    '--weight-transfer-config \'{"backend": "nccl"}\''
)
"""How a server is started."""


def in_background(work: Callable[[], T]) -> Future[T]:
    """Begin work in a thread that does not keep the program from ending; its result, or what it raised, to wait for."""
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=run, name="heedful-rollout", daemon=True).start()
    return outcome


@dataclass(frozen=True)
class Facts:
    """What a server says of itself."""

    model: str
    window: int
    backend: str
    workers: int


@dataclass(frozen=True)
class Sampled:
    """One completion: its tokens, end-of-turn token included, and their log-probabilities under the sampler."""

    tokens: list[int]
    logprobs: list[float]
    finished: bool


class VLLMServer:
    """The requests that a trainer makes of a vLLM server.

    Args:
        url: where it listens.
        patience: seconds that it may take for an answer.
    """

    def __init__(self, url: str, patience: float) -> None:
        self.url = url.rstrip("/")
        self.patience = patience

    def facts(self) -> Facts:
        """What the server is.

        Raises:
            HeedfulError: there is none, or it was not started as training needs it.
        """
        served = self.call("GET", "/v1/models")["data"]
        own = [model for model in served if model.get("parent") is None]  # adapters have one
        settings = self.call("GET", "/server_info", params={"config_format": "json"})["vllm_config"]
        mode = settings["model_config"]["logprobs_mode"]
        if mode != "processed_logprobs":
            raise self.problem(
                f"the server's logprobs_mode is {mode}: its log-probabilities are not of what it samples from"
            )
        transfer = settings.get("weight_transfer_config")
        if not transfer:
            raise self.problem("the server was not started to take weights")
        workers = int(self.call("GET", "/get_world_size")["world_size"])
        return Facts(own[0]["id"], int(own[0]["max_model_len"]), str(transfer["backend"]), workers)

    def sample(
        self,
        model: str,
        prompts: Sequence[Sequence[int]],
        params: RolloutParams,
        *,
        samples: int,
        at_once: int | None,
        first: int,
        eos: Sequence[int],
        banned: Sequence[int],
        version: str,
    ) -> list[list[Sampled]]:
        """Completions of each prompt.

        Args:
            samples: how many of each, K.
            at_once: sequences asked for at a time; None leaves it to the server.
            first: how many prompts of the whole stand before these. With `params.seed` it gives the samples' seeds.
            eos: tokens that end a turn.
            banned: tokens without probability.
            version: of the weights that are to have sampled every token.

        Raises:
            HeedfulError: the server is gone, refuses, or answered with other weights or otherwise than asked.
        """
        same = {
            "model": model,
            "n": samples,
            "max_tokens": params.max_new_tokens,
            "temperature": params.temperature,
            # Whatever generation settings the server has read: the policy's own distribution and nothing else.
            "top_p": 1.0,
            "top_k": 0,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "logit_bias": {str(token): BAN for token in banned},
            "stop": list(params.stop),
            "include_stop_str_in_output": True,
            "skip_special_tokens": False,  # a stop string may name one
            "ignore_eos": True,  # the server's own idea of it
            "stop_token_ids": list(eos),
            "logprobs": 0,
            "return_token_ids": True,
            "return_tokens_as_token_ids": True,
            "return_weight_versions": True,
        }
        asked = [
            same | {"prompt": list(prompt), "seed": mix(params.seed, first + place) >> 1}
            for place, prompt in enumerate(prompts)
        ]
        room = max(1, (at_once or AT_ONCE) // samples)
        # In a thread of its own: a notebook's has a loop that runs already.
        answers = in_background(lambda: asyncio.run(self._ask(asked, room))).result()
        return [
            [self._read(choice, params, banned, version) for choice in self._choices(answer, samples)]
            for answer in answers
        ]

    async def _ask(self, asked: Sequence[dict[str, Any]], at_once: int) -> list[Any]:
        room = asyncio.Semaphore(at_once)
        limits = httpx2.Limits(max_connections=CONNECTIONS, max_keepalive_connections=None)
        async with httpx2.AsyncClient(base_url=self.url, timeout=self._timeout(), limits=limits) as client:

            async def one(body: dict[str, Any]) -> Any:
                async with room:
                    try:
                        answer = await client.post("/v1/completions", json=body)
                    except httpx2.HTTPError as error:
                        raise self._gone(error) from error
                    return self._content(answer)

            tasks = [asyncio.ensure_future(one(body)) for body in asked]
            try:
                return await asyncio.gather(*tasks)
            finally:
                for task in tasks:  # after an error nobody wants the others
                    task.cancel()

    def _choices(self, answer: Any, samples: int) -> list[dict[str, Any]]:
        choices = sorted(answer["choices"], key=lambda choice: choice["index"])
        if len(choices) != samples:
            raise self.problem(f"{samples} completions were asked for, and {len(choices)} came")
        return choices

    def _read(self, choice: dict[str, Any], params: RolloutParams, banned: Sequence[int], version: str) -> Sampled:
        tokens, why = choice.get("token_ids"), choice.get("finish_reason")
        told = (choice.get("logprobs") or {}).get("token_logprobs")
        if not tokens or told is None or len(told) != len(tokens) or None in told:
            raise self.problem("it gives no tokens with their log-probabilities")
        if why not in ("stop", "length"):
            raise self.problem(f"a completion ended by {why!r}: something else than this run stopped it")
        if why == "length" and len(tokens) < params.max_new_tokens:
            raise self.problem(
                f"a completion was cut at {len(tokens)} of {params.max_new_tokens} tokens by the server's own settings"
            )
        said = set(tokens) & set(banned)
        if said:
            raise self.problem(f"it sampled tokens {sorted(said)[:5]}, which have no probability in this policy")
        spans = choice.get("weight_versions")
        if not spans or {span["version"] for span in spans} != {version}:
            found = ", ".join(sorted({span["version"] for span in spans or ()})) or "none"
            raise self.problem(
                f"it sampled with weights {found!r} where {version!r} were sent: it was started anew, or another "
                "trainer uses it"
            )
        return Sampled(list(tokens), [float(value) for value in told], why == "stop")

    def call(self, how: str, path: str, **request: Any) -> Any:
        """The JSON that a route answers with.

        Raises:
            HeedfulError: the server is gone, or refuses.
        """
        try:
            answer = httpx2.request(how, self.url + path, timeout=self._timeout(), **request)
        except httpx2.HTTPError as error:
            raise self._gone(error) from error
        return self._content(answer)

    def _timeout(self) -> httpx2.Timeout:
        return httpx2.Timeout(self.patience, connect=min(self.patience, 10.0), pool=None)

    def _content(self, answer: httpx2.Response) -> Any:
        path = answer.request.url.path
        if answer.status_code == 404 and path != "/v1/completions":
            raise self.problem(f"it has no {path}: it runs without VLLM_SERVER_DEV_MODE=1, or is older than vLLM 0.33")
        if answer.is_server_error:
            raise HeedfulError(
                f"{path} answered {answer.status_code}: {_said(answer)}.",
                where=self.url,
                mend="Look at the server's log. If it has to be started anew, the same command then goes on from the "
                "last checkpoint.",
            )
        if answer.is_error:
            raise self.problem(f"{path} answered {answer.status_code}: {_said(answer)}")
        try:
            return answer.json()
        except ValueError as error:
            raise self.problem(f"{path} answered with something else than JSON") from error

    def _gone(self, error: httpx2.HTTPError) -> HeedfulError:
        if isinstance(error, httpx2.TimeoutException) and not isinstance(error, httpx2.ConnectTimeout):
            return HeedfulError(
                f"the vLLM server did not answer within {self.patience:g} seconds.",
                where=self.url,
                mend="Look at its log; if it works, raise rollout.vllm.patience. One that waits for the weights of a "
                "trainer that was killed has to be started anew. The same command then goes on from the last "
                "checkpoint.",
            )
        return HeedfulError(
            f"there is no vLLM server: {error or type(error).__name__}.",
            where=self.url,
            mend=f"Start one ({START}), then the same command: it goes on from the last checkpoint.",
        )

    def problem(self, what: str) -> HeedfulError:
        """An error that says how a server is to be started."""
        return HeedfulError(f"{what}.", where=self.url, mend=f"Start it with {START}, for this run alone.")


def _said(answer: httpx2.Response) -> str:
    """What an error says, in a line."""
    try:
        content = answer.json()
        error = content.get("error", content.get("detail", content))
        text = error.get("message", error) if isinstance(error, dict) else error
    except (ValueError, AttributeError):
        text = answer.text
    return " ".join(str(text).split())[:300] or answer.reason_phrase
