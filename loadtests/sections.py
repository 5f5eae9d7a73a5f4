"""The sections of the benchmark, in the order they run, and the tables in the page's order."""

from __future__ import annotations

from collections.abc import Mapping

from loadtests.section import Section
from loadtests.sections_elsewhere import clients, overloaded, prompts
from loadtests.sections_model import with_model
from loadtests.sections_scripted import alone, proxies, serve_llm, with_scripted_worker

ARMS = ("engram", "vllm", "relay", "fastapi_httpx", "litellm", "serve_llm", "plain")
SECTIONS: Mapping[str, Section] = {
    "scripted": Section("Engram, vLLM and a relay on a free model", with_scripted_worker, 180, 330),
    "model": Section("Engram and vLLM on the real model", with_model, 100, 220),
    "proxies": Section("Engram, LiteLLM and a FastAPI relay on a free model", proxies, 0, 200),
    "serve_llm": Section("Engram and Ray Serve LLM on a free model", serve_llm, 0, 150),
    "alone": Section("Engram and a relay without vLLM", alone, 0, 130),
    "overload": Section("the knee, and twice and five times its rate", overloaded, 0, 230),
    "agreement": Section("Locust beside the open loop", clients, 0, 150),
    "prompt_order": Section("prompt tokens computed, by the order of passages", prompts, 0, 300),
}
KEYS = (
    "streams_64",
    "ttft",
    "rag",
    *("proxies", "serve_llm", "alone", "overload"),
    *("streams_1", "streams_16", "streams_256"),
    *("body_1kb", "body_32kb", "body_220kb"),
    *("model_32", "model_256", "modes"),
    *("prompt_order", "agreement"),
)
