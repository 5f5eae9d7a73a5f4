"""A server that streams words at a known pace and says in `usage.truth` what it really did.

The client's self-test compares its own clock with that truth. Runs in a process of its own, so
that the two do not share an event loop: `python -m loadtests.mock`.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass

import orjson
import uvloop

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_WORD = b'data: {"choices":[{"index":0,"delta":{"content":"word "},"finish_reason":null}]}\n\n'


@dataclass(frozen=True, slots=True)
class Pace:
    ttft_s: float = 0.02
    itl_s: float = 0.005
    tokens: int = 32
    stall_at: int = 0  # the number of a request, from 1, at which everything stands still
    stall_s: float = 0.0


class Mock:
    """Answers every POST with `pace.tokens` words."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._requests = 0

    async def start(self, port: int = 0) -> asyncio.Server:
        return await asyncio.start_server(self.serve, "127.0.0.1", port)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = _LENGTH.search(head)
                await reader.readexactly(int(length[1]) if length else 0)
                self._requests += 1
                if self._requests == self._pace.stall_at:
                    time.sleep(self._pace.stall_s)  # noqa: ASYNC251, everybody waits
                await self._answer(writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client is done
        finally:
            writer.close()

    async def _answer(self, writer: asyncio.StreamWriter) -> None:
        received = time.perf_counter()
        await asyncio.sleep(self._pace.ttft_s)
        written = [time.perf_counter()]
        writer.write(_HEAD + _chunk(_WORD))
        for _ in range(self._pace.tokens - 1):
            await asyncio.sleep(self._pace.itl_s)
            written.append(time.perf_counter())
            writer.write(_chunk(_WORD))
        writer.write(_chunk(_usage(received, written)) + _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")
        await writer.drain()


def _usage(received: float, written: Sequence[float]) -> bytes:
    gaps = len(written) - 1
    truth = {
        "ttft_s": written[0] - received,
        "itl_s": (written[-1] - written[0]) / gaps if gaps else 0.0,
    }
    usage = {"completion_tokens": len(written), "truth": truth}
    return b"data: " + orjson.dumps({"choices": [], "usage": usage}) + b"\n\n"


def _chunk(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(body), body)


async def _run(pace: Pace) -> None:
    server = await Mock(pace).start()
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ttft-ms", type=float, default=20.0)
    parser.add_argument("--itl-ms", type=float, default=5.0)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--stall-at", type=int, default=0, help="number of a request; 0 is none")
    parser.add_argument("--stall-ms", type=float, default=0.0, help="it and all others wait")
    given = parser.parse_args()
    times_s = (given.ttft_ms / 1000, given.itl_ms / 1000)
    uvloop.run(_run(Pace(*times_s, given.tokens, given.stall_at, given.stall_ms / 1000)))


if __name__ == "__main__":
    main()
