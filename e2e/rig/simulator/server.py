"""The HTTP face of one replica on `podIP:8000`: completions, metrics, health."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator

from aiohttp import web

from rig.simulator import exposition, protocol, vllm
from rig.simulator.engines import Replica, Stream

ENGINE_PORT = 8000
MAX_BODY_BYTES = 32 * 2**20  # a prompt of a million token ids in decimal
LISTEN_BACKLOG = 512


class EngineServer:
    """Serves one replica until `close`; `drain` turns new requests away and lets the running ones finish."""

    def __init__(self, replica: Replica) -> None:
        self.replica = replica
        self.draining = False
        self._runner: web.AppRunner | None = None
        self._answering = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def start(self, ip: str, port: int = ENGINE_PORT) -> None:
        """Listen on `ip:port`.

        Raises:
            OSError: The address is taken or not ours.
        """
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.add_routes(
            [
                web.post("/v1/completions", self._completions),
                web.post("/v1/chat/completions", self._chat),
                web.get("/v1/models", self._models),
                web.get("/metrics", self._metrics),
                web.get("/health", self._health),
                web.get("/version", self._version),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, ip, port, backlog=LISTEN_BACKLOG).start()

    async def drain(self, grace_s: float) -> None:
        """Take no new request, and return when the last one is finished or the grace is over."""
        self.draining = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await self._idle.wait()

    async def close(self) -> None:
        """Stop listening; what still streams is cut off, as SIGKILL would."""
        self.replica.close()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _completions(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, chat=False)

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, chat=True)

    async def _answer(self, request: web.Request, *, chat: bool) -> web.StreamResponse:
        if self.draining:
            return _turned_away()
        try:
            ask = protocol.parse(json.loads(await request.read()), chat=chat)
            self._check(ask)
        except json.JSONDecodeError as failure:
            return _refused(f"the body is not JSON: {failure}")
        except protocol.BadRequestError as failure:
            return _refused(str(failure))
        if ask.model not in (None, self.replica.model_name):
            message = f"The model `{ask.model}` does not exist; this engine serves `{self.replica.model_name}`."
            return web.json_response(protocol.error(message, kind="NotFoundError", code=404), status=404)
        with self._counted():
            return await self._complete(request, ask)

    async def _complete(self, request: web.Request, ask: protocol.Ask) -> web.StreamResponse:
        stream = self.replica.submit(ask.prompt_tokens, ask.max_tokens)
        writer = protocol.Writer(ask, f"cmpl-{stream.request.request_id}")
        try:
            return await (_streamed(request, stream, writer) if ask.stream else _whole(stream, writer))
        except (ConnectionError, asyncio.CancelledError):
            stream.aborted = True  # the engine finishes it all the same: the world has no abort
            raise

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        """Count an answer from its submission to its last byte: a drain waits for both."""
        self._answering += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._answering -= 1
            if not self._answering:
                self._idle.set()

    def _check(self, ask: protocol.Ask) -> None:
        longest = self.replica.max_model_len
        if ask.prompt_tokens + ask.max_tokens > longest:
            raise protocol.BadRequestError(
                f"max_tokens: {ask.prompt_tokens} prompt + {ask.max_tokens} output tokens exceed the model's {longest}"
            )

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=self.replica.page(), headers={"Content-Type": exposition.CONTENT_TYPE})

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response()

    async def _version(self, _: web.Request) -> web.Response:
        return web.json_response({"version": vllm.VERSION})

    async def _models(self, _: web.Request) -> web.Response:
        model = {"id": self.replica.model_name, "object": "model", "owned_by": "vllm"}
        return web.json_response(
            {"object": "list", "data": [{**model, "max_model_len": self.replica.max_model_len}]},
        )


async def _streamed(request: web.Request, stream: Stream, writer: protocol.Writer) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
    await response.prepare(request)
    while not stream.ended:
        tokens = await stream.tokens()
        await response.write(writer.chunk(tokens, last=stream.ended))
    await response.write(writer.end())
    await response.write_eof()
    return response


async def _whole(stream: Stream, writer: protocol.Writer) -> web.Response:
    while not stream.ended:
        await stream.tokens()
    return web.json_response(writer.whole())


def _turned_away() -> web.Response:
    body = protocol.error("the engine is shutting down", kind="ServiceUnavailableError", code=503)
    return web.json_response(body, status=503, headers={"Connection": "close"})


def _refused(message: str) -> web.Response:
    return web.json_response(protocol.error(message, kind="BadRequestError", code=400), status=400)
