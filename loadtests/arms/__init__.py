"""The servers that the benchmark compares."""

from loadtests.arms.arm import Arm, ArmError, Unavailable
from loadtests.arms.relays import HttpRelay, LiteLlm
from loadtests.arms.running import running
from loadtests.arms.servers import BareVllm, Engram, Plain, Relay, ServeLlm, command_line

__all__ = [
    "Arm",
    "ArmError",
    "BareVllm",
    "Engram",
    "HttpRelay",
    "LiteLlm",
    "Plain",
    "Relay",
    "ServeLlm",
    "Unavailable",
    "command_line",
    "running",
]
