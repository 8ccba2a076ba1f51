"""OpenAI's completion protocol as vLLM speaks it: what a request asks for, and the bytes of its answer."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

CHARS_PER_TOKEN = 4  # OpenAI's rule of thumb for English; exact counts come as ids or as rig_prompt_tokens
DEFAULT_MAX_TOKENS = 16  # vLLM's default of /v1/completions
DEFAULT_CHAT_MAX_TOKENS = 256  # vLLM would run to an end of sequence that a simulator cannot know
FILLER = " tok"


class BadRequestError(Exception):
    """What the client asked for is not served; the text names the field and goes into the 400 answer."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One completion as asked for."""

    model: str | None
    prompt_tokens: int
    max_tokens: int
    stream: bool
    include_usage: bool
    chat: bool


def parse(body: object, *, chat: bool) -> Ask:
    """Return what a JSON body asks for.

    `rig_prompt_tokens`, a field of ours, overrides the count of the prompt: a trace knows lengths, not words.

    Raises:
        BadRequestError: A field is missing or out of range.
    """
    if not isinstance(body, dict):
        raise BadRequestError("the body must be a JSON object")
    if body.get("n", 1) != 1:
        raise BadRequestError("n: the simulator answers one choice per request")
    exact = body.get("rig_prompt_tokens")
    default = DEFAULT_CHAT_MAX_TOKENS if chat else DEFAULT_MAX_TOKENS
    options = body.get("stream_options") or {}
    return Ask(
        model=body.get("model"),
        prompt_tokens=_prompt_tokens(body, chat=chat) if exact is None else _whole("rig_prompt_tokens", exact),
        max_tokens=_whole("max_tokens", body.get("max_completion_tokens") or body.get("max_tokens", default)),
        stream=body.get("stream") is True,
        include_usage=isinstance(options, dict) and options.get("include_usage") is True,
        chat=chat,
    )


class Writer:
    """The frames of one answer. All frames of a stream share everything but the text, so that is made once."""

    def __init__(self, ask: Ask, request_id: str) -> None:
        self._ask = ask
        self._head = {
            "id": request_id,
            "object": ("chat.completion" if ask.chat else "text_completion")
            + (".chunk" if ask.chat and ask.stream else ""),
            "created": int(time.time()),
            "model": ask.model or "",
        }

    def chunk(self, tokens: int, *, last: bool) -> bytes:
        """Return one SSE frame with `tokens` tokens."""
        return _sse({**self._head, "choices": [self._choice(tokens, last=last)]})

    def end(self) -> bytes:
        """Return what follows the last token: the usage frame where it was asked for, and `[DONE]`."""
        usage = _sse({**self._head, "choices": [], "usage": self._usage()}) if self._ask.include_usage else b""
        return usage + b"data: [DONE]\n\n"

    def whole(self) -> dict[str, object]:
        """Return the answer without streaming."""
        return {**self._head, "choices": [self._choice(self._ask.max_tokens, last=True)], "usage": self._usage()}

    def _choice(self, tokens: int, *, last: bool) -> dict[str, object]:
        text = FILLER * tokens
        said: dict[str, object] = {"text": text}
        if self._ask.chat:
            said = {"delta" if self._ask.stream else "message": {"role": "assistant", "content": text}}
        return {"index": 0, **said, "logprobs": None, "finish_reason": "length" if last else None}

    def _usage(self) -> dict[str, int]:
        prompt, output = self._ask.prompt_tokens, self._ask.max_tokens
        return {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output}


def error(message: str, *, kind: str, code: int) -> dict[str, object]:
    """Return vLLM's error body."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def _sse(frame: Mapping[str, object]) -> bytes:
    return b"data: " + json.dumps(frame, separators=(",", ":")).encode() + b"\n\n"


def _prompt_tokens(body: Mapping[str, object], *, chat: bool) -> int:
    prompt = body.get("messages" if chat else "prompt")
    if chat and isinstance(prompt, Sequence) and prompt:
        return _text_tokens("".join(str(m.get("content", "")) for m in prompt if isinstance(m, dict)))
    if isinstance(prompt, str) and prompt and not chat:
        return _text_tokens(prompt)
    if isinstance(prompt, list) and prompt and all(isinstance(token, int) for token in prompt):
        return len(prompt)
    raise BadRequestError(
        "messages: give at least one message" if chat else "prompt: give a text or a list of token ids, not empty"
    )


def _text_tokens(text: str) -> int:
    return max(1, math.ceil(len(text) / CHARS_PER_TOKEN))


def _whole(field: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise BadRequestError(f"{field}: {value!r} is not a whole number above zero")
    return value
