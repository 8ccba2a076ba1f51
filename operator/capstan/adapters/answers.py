"""Answers over HTTP: read up to a cap, and parsed to a JSON object; whatever else came is Malformed.

Who calls it: the adapters that ask over HTTP. Must not know: whom, or what an answer should say.
"""

from __future__ import annotations

import json

import httpx

from capstan.adapters import errors


async def capped(answer: httpx.Response, what: str, *, limit_bytes: int) -> bytes:
    """Return a body that is still on the wire; one longer than `limit_bytes` is read no further and is Malformed."""
    content = bytearray()
    async for part in answer.aiter_bytes():
        content += part
        if len(content) > limit_bytes:
            raise errors.Malformed(f"{what}: the answer is larger than {limit_bytes} bytes")
    return bytes(content)


def uncoded(answer: httpx.Response, what: str) -> None:
    """Refuse a compressed answer that was not asked for: 64 KiB of it may be 64 MiB of zeros. Raises Malformed."""
    coding = answer.headers.get("content-encoding", "identity")
    if coding != "identity":
        raise errors.Malformed(f"{what}: the answer is compressed ({coding}), which was not asked for")


def parsed(content: bytes, what: str) -> dict[str, object]:
    """Return the JSON object in `content`, or raise Malformed with `what` was asked."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as problem:
        raise errors.Malformed(f"{what}: the answer is not JSON: {problem}") from problem
    if not isinstance(found, dict):
        raise errors.Malformed(f"{what}: the answer is not an object")
    return found
