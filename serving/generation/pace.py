"""How long a stream rests between two chunks, so that many streams do not drown in small writes.

A chunk costs the gateway and HAProxy about the same whether it holds one token or ten. Few streams
are never held up; many share a fixed number of chunks a second, and what is generated while one
rests goes out with its next chunk.
"""

from __future__ import annotations

FREE_STREAMS = 16  # so few are written token by token
CHUNKS_PER_S = 4_000  # of one gateway replica, with HAProxy's part about a fifth of a core
LONGEST_S = 0.05  # a reader still sees words flow


def pause(streams: int) -> float:
    """Seconds between a stream's chunk and its next, of which others write meanwhile."""
    if streams <= FREE_STREAMS:
        return 0.0
    return min(streams / CHUNKS_PER_S, LONGEST_S)
