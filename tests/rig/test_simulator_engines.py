"""The world's engine in real time: tokens come when the physics say, and the metrics book the engine's own moments."""

from __future__ import annotations

import asyncio
import time

import pytest

from rig.simulator import vllm
from rig.simulator.engines import Caps, Replica, Stream
from rig.simulator.pods import EngineArgs
from support import simulator


async def read(stream: Stream) -> list[tuple[int, float]]:
    """Every chunk's tokens and when it was read."""
    chunks = []
    while not stream.ended:
        tokens = await stream.tokens()
        chunks.append((tokens, time.monotonic()))
    return chunks


def page_value(replica: Replica, sample: str) -> float:
    [line] = [line for line in replica.page().decode().splitlines() if line.startswith(f"vllm:{sample}{{")]
    return float(line.rsplit(" ", 1)[1])


async def test_a_request_gets_its_tokens_at_the_physics_pace() -> None:
    """A prefill of 2 ms + 100 tokens x 0.09 ms = 11 ms, then 40 steps of 2 ms: about 91 ms in all."""
    replica = Replica(simulator.quick_profile(), EngineArgs(), stream_interval_tokens=1)
    stream = replica.submit(prompt_tokens=100, output_tokens=41)
    begun_s = time.monotonic()
    chunks = await read(stream)
    assert sum(tokens for tokens, _ in chunks) == 41
    assert chunks[0][1] - begun_s == pytest.approx(0.011, abs=0.02), "first token after the prefill"
    assert stream.last_s - stream.first_s == pytest.approx(40 * 0.002, rel=0.05), "booked at the engine's own pace"
    assert chunks[-1][1] >= stream.last_s, "nothing is handed out before it exists"
    assert chunks[-1][1] - stream.last_s < 0.05, "nor long after"
    replica.close()


async def test_chunks_after_the_first_hold_an_interval_of_tokens() -> None:
    replica = Replica(simulator.quick_profile(), EngineArgs(), stream_interval_tokens=8)
    chunks = await read(replica.submit(10, 20))
    assert chunks[0][0] == 1, "the first token goes out at once: it is the time to first token"
    assert sum(tokens for tokens, _ in chunks) == 20
    assert all(tokens >= 8 for tokens, _ in chunks[1:-1])
    replica.close()


async def test_the_first_token_goes_out_alone_though_the_loop_woke_late() -> None:
    """All 20 tokens are made in one go, a second after the request: a busy machine. 1 token, then the other 19."""
    now_s = time.monotonic()
    replica = Replica(simulator.quick_profile(), EngineArgs(), clock=lambda: now_s, stream_interval_tokens=8)
    stream = replica.submit(10, 20)
    replica.advance(now_s + 1.0)
    assert stream.finished
    assert not stream.ended
    assert [tokens for tokens, _ in await read(stream)] == [1, 19]
    replica.close()


async def test_a_request_behind_a_full_engine_waits_and_the_queue_time_says_so() -> None:
    """One sequence at a time: the second is scheduled when the first is finished, about 40 steps of 2 ms later."""
    replica = Replica(simulator.quick_profile(), EngineArgs(max_num_seqs=1))
    first, second = replica.submit(10, 40), replica.submit(10, 2)
    await asyncio.sleep(0.02)
    assert (replica.engine.running, replica.engine.waiting) == (1, 1)
    assert page_value(replica, "num_requests_waiting") == 1
    await read(second)
    assert first.finished
    assert second.scheduled_s - second.request.arrival_s == pytest.approx(0.08, rel=0.3)
    assert page_value(replica, "request_queue_time_seconds_sum") == pytest.approx(0.08, rel=0.4)
    replica.close()


async def test_the_page_counts_what_the_engine_did() -> None:
    replica = Replica(simulator.quick_profile(), EngineArgs(served_model_name="chat"))
    await asyncio.gather(read(replica.submit(100, 10)), read(replica.submit(50, 5)))
    assert page_value(replica, "prompt_tokens_total") == 150
    assert page_value(replica, "generation_tokens_total") == 15
    assert page_value(replica, "iteration_tokens_total_sum") == 165, "each prompt and output token in one step"
    assert page_value(replica, "time_to_first_token_seconds_count") == 2
    assert page_value(replica, "inter_token_latency_seconds_count") == 13, "one gap fewer than tokens, per request"
    assert page_value(replica, "kv_cache_usage_perc") == 0
    replica.close()


async def test_a_clock_cap_slows_the_engine_and_takes_power_away() -> None:
    replica = Replica(simulator.quick_profile(weights_s=0.004, decode_clock_ratio=1.0), EngineArgs())
    stream = replica.submit(10, 400)
    await asyncio.sleep(0.15)
    full_w, before = replica.engine.power_w, stream.made
    replica.set_caps(Caps(clock_cap_mhz=990.0), time.monotonic())
    await asyncio.sleep(0.1)  # the switch takes 50 ms
    replica.advance(time.monotonic())
    assert replica.engine.sm_clock_mhz == 990
    assert replica.engine.power_w < full_w
    assert before > 20
    start_s, start = stream.last_s, stream.made
    await asyncio.sleep(0.15)
    pace_s = (stream.last_s - start_s) / (stream.made - start)
    assert pace_s == pytest.approx(0.001 + 2 * 0.004, rel=0.1), "half the clock: the GPU part takes twice as long"
    replica.close()


async def test_an_idle_engine_sleeps_and_wakes_for_the_next_request() -> None:
    replica = Replica(simulator.quick_profile(), EngineArgs())
    await read(replica.submit(10, 3))
    assert replica.engine.next_event_s == float("inf"), "no timer while nothing is to do"
    await asyncio.sleep(0.05)
    assert len(await read(replica.submit(10, 3))) >= 1
    replica.close()


async def test_nobody_reading_does_not_hold_the_engine_up() -> None:
    replica = Replica(simulator.quick_profile(), EngineArgs())
    stream = replica.submit(10, 5)
    stream.aborted = True
    await simulator.until(lambda: stream.finished)
    assert vllm.FINISHED_REASONS[2] == "abort"
    [line] = [text for text in replica.page().decode().splitlines() if 'finished_reason="abort"' in text]
    assert line.endswith(" 1.0")
    replica.close()
