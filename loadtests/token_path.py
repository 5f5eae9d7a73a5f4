"""CPU of a token from vLLM's collector to a socket: written at once, or with rests between chunks.

    python -m loadtests.token_path --streams 64

A producer hands every stream one token per step, as vLLM's output handler does; the streams are
written by Engram's own code to sockets that a second process empties. The cost is this process's
CPU time, producer included; the arms take turns.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import selectors
import socket
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import uvloop
from vllm.outputs import CompletionOutput, RequestOutput
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.output_processor import RequestOutputCollector

from loadtests.statistics import Estimate, estimate, ratio
from serving.api.answers import EventStream
from serving.api.frames import ChatFrames
from serving.generation.citations import cite
from serving.generation.pace import pause
from serving.types import Decision, Delta, Event, Finished, Mode, Started, Usage

STEP_S = 0.005
Rest = Callable[[int], float]
ARMS: dict[str, Rest] = {"token by token": lambda _: 0.0, "with rests": pause}


@dataclass(frozen=True, slots=True)
class Turn:
    """One arm's streams from start to end."""

    us_per_token: float
    chunks_per_token: float


async def measure(port: int, streams: int, tokens: int, repeats: int) -> dict[str, list[Turn]]:
    """A-B-A-B after a turn of each that is dropped."""
    turns: dict[str, list[Turn]] = {name: [] for name in ARMS}
    for repeat in range(repeats + 1):
        for name, rest in ARMS.items():
            turn = await _turn(port, streams, tokens, rest)
            if repeat:
                turns[name].append(turn)
    return turns


async def _turn(port: int, streams: int, tokens: int, rest: Rest) -> Turn:
    collectors = [RequestOutputCollector(RequestOutputKind.DELTA, f"{n}") for n in range(streams)]
    began_s = time.process_time()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_write(port, one, rest, streams)) for one in collectors]
        due = time.perf_counter()
        for number in range(1, tokens + 1):
            for collector in collectors:
                collector.put(_output(number, last=number == tokens))
            due += STEP_S
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
    spent_s = time.process_time() - began_s
    chunks = sum(task.result() for task in tasks)
    return Turn(spent_s / (streams * tokens) * 1e6, chunks / (streams * tokens))


def _output(number: int, *, last: bool) -> RequestOutput:
    reason = "length" if last else None
    choice = CompletionOutput(0, " word", [number], None, None, finish_reason=reason)
    return RequestOutput("", None, [1], None, [choice], finished=last)


async def _write(port: int, collector: RequestOutputCollector, rest: Rest, streams: int) -> int:
    """One answer; the number of its chunks."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_connection(asyncio.Protocol, "127.0.0.1", port)
    chunks = 0

    async def send(message: dict[str, object]) -> None:
        nonlocal chunks
        body = message.get("body")
        if isinstance(body, bytes) and body:
            chunks += 1
            transport.write(body)

    frames = ChatFrames("req-1", "model", include_usage=True)
    answer = EventStream(_events(collector, rest, streams), frames, "req-1")
    await answer({}, asyncio.Event().wait, send)  # type: ignore[arg-type]
    transport.close()
    return chunks


async def _events(
    collector: RequestOutputCollector, rest: Rest, streams: int
) -> AsyncGenerator[Event, None]:
    yield Started(Decision(Mode.BASE, ""), ())
    async for event in cite(_deltas(collector, rest, streams), ()):
        yield event
    yield Finished(Usage(), {})


async def _deltas(
    collector: RequestOutputCollector, rest: Rest, streams: int
) -> AsyncGenerator[Delta, None]:
    """As `Runtime` reads them from vLLM."""
    reason = None
    while reason is None:
        output = collector.get_nowait() or await collector.get()
        assert isinstance(output, RequestOutput)
        (choice,) = output.outputs
        reason = choice.finish_reason
        yield Delta(choice.text, 0, reason)
        if rest_s := rest(streams):
            await asyncio.sleep(rest_s)


@contextmanager
def sink() -> Iterator[int]:
    """The port of a process that empties whatever connects."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listening:
        port: int = listening.getsockname()[1]
        process = multiprocessing.get_context("fork").Process(
            target=_empty, args=(listening,), daemon=True
        )
        process.start()
    try:
        yield port
    finally:
        process.kill()
        process.join()


def _empty(listening: socket.socket) -> None:
    selector = selectors.DefaultSelector()
    selector.register(listening, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            ready = key.fileobj
            assert isinstance(ready, socket.socket)
            if ready is listening:
                selector.register(ready.accept()[0], selectors.EVENT_READ)
            elif not ready.recv(65536):
                selector.unregister(ready)
                ready.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.token_path",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--streams", type=int, default=64, help="answers at once (%(default)s)")
    parser.add_argument("--tokens", type=int, default=60, help="of each (%(default)s)")
    parser.add_argument("--repeats", type=int, default=9, help="turns of each arm (%(default)s)")
    chosen = parser.parse_args()
    with sink() as port:
        turns = uvloop.run(measure(port, chosen.streams, chosen.tokens, chosen.repeats))
    plain = [turn.us_per_token for turn in turns["token by token"]]
    for name, measured in turns.items():
        cost = estimate([turn.us_per_token for turn in measured])
        chunks = estimate([turn.chunks_per_token for turn in measured])
        compared = ratio([turn.us_per_token for turn in measured], plain)
        print(
            f"{name:<15} {_said(cost, 1)} CPU-µs per token, {chunks.value:.2f} chunks per token,"
            f" ratio {_said(compared, 2)}"
        )


def _said(found: Estimate, digits: int) -> str:
    return f"{found.value:.{digits}f} ({found.low:.{digits}f} - {found.high:.{digits}f})"


if __name__ == "__main__":
    main()
