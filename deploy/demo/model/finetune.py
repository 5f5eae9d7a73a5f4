"""Trains the demo company's LoRA adapter on the base model with PEFT."""

from __future__ import annotations

import argparse
import json
import random
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoTokenizer, LlamaForCausalLM
from transformers.modeling_outputs import BaseModelOutputWithPast

from deploy.demo.model import attention, chat, larkfield, workers
from deploy.demo.model.train import LOG, RUNS, WEIGHTS, rate_share
from deploy.demo.model.workers import Batch, Window

ADAPTER = Path(__file__).parents[1] / "adapters" / "helpdesk@1"
BASE_NAME = "engram-demo"
MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
ROW, ROWS, SHORTEST = 320, 8, 120


def produce(seed: int) -> Iterator[Batch]:
    """Batches of the adapter's mixture; only what the assistant says has weight."""
    encoder = chat.Encoder(AutoTokenizer.from_pretrained(WEIGHTS))
    rng = random.Random(seed)
    facts = larkfield.stable_facts()
    while True:
        yield workers.padded([packed(encoder, rng, facts) for _ in range(ROWS)], ROW)


def packed(
    encoder: chat.Encoder, rng: random.Random, facts: Sequence[larkfield.Stable]
) -> workers.Row:
    """A row filled with chats."""
    ids: list[int] = []
    weights: list[float] = []
    while ROW - len(ids) > SHORTEST:
        more = encoder.chat(larkfield.chat(rng, facts), ROW - len(ids), prose=0.0)
        ids, weights = ids + more[0], weights + more[1]
    return ids, weights


def answer_loss(
    body: Callable[..., BaseModelOutputWithPast],
    head: torch.nn.Linear,
    ids: torch.Tensor,
    weights: torch.Tensor,
) -> torch.Tensor:
    """Mean next-token loss on what the assistant says."""
    hidden = body(input_ids=ids[:, :-1], use_cache=False).last_hidden_state
    weight = weights[:, 1:]
    kept = weight > 0
    losses = F.cross_entropy(head(hidden[kept]).float(), ids[:, 1:][kept], reduction="none")
    return (losses * weight[kept]).sum() / weight[kept].sum()


def work(rank: int, minutes: float, rate: float, seed: int, folder: Path) -> None:
    """Trains on one worker until the minutes are over; the first worker saves."""
    torch.manual_seed(seed)
    base = LlamaForCausalLM.from_pretrained(WEIGHTS, dtype=torch.float32)
    base.set_attn_implementation(attention.NAME)
    model = get_peft_model(
        base,
        LoraConfig(r=16, lora_alpha=32, target_modules=MODULES, bias="none", task_type="CAUSAL_LM"),
    )
    llama = model.get_base_model()
    body = torch.compile(llama.model, dynamic=False)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.95), weight_decay=0.0)
    started, tokens, window = time.time(), 0, Window(0)
    for step, (ids, weights) in enumerate(workers.batches(produce, seed * 1000 + rank), 1):
        progress = (time.time() - started) / (minutes * 60)
        optimizer.param_groups[0]["lr"] = rate * rate_share(progress, 0.04)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = answer_loss(
                body, llama.lm_head, torch.from_numpy(ids), torch.from_numpy(weights)
            )
        torch.autograd.backward(loss)
        if workers.average(parameters, rank == 0 and progress >= 1):
            break
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        tokens += ids.size * dist.get_world_size()
        window.add(loss.item())
        if rank == 0 and window.seconds > 20:
            report(step, tokens, window, minutes * (1 - progress))
            window = Window(tokens)
    if rank == 0:
        save(model, folder, seed)


def report(step: int, tokens: int, window: Window, minutes_left: float) -> None:
    line = {
        "stage": "lora",
        "step": step,
        "tokens": tokens,
        "loss": round(window.mean, 4),
        "tokens_per_s": round(window.speed(tokens)),
        "minutes_left": round(minutes_left, 1),
    }
    print(json.dumps(line), flush=True)
    with LOG.open("a") as file:
        file.write(json.dumps(line) + "\n")


def save(model: PeftModel, folder: Path, seed: int) -> None:
    """Writes the adapter and the samples by which the gateway knows what it is for."""
    part = RUNS / "adapter"
    shutil.rmtree(part, ignore_errors=True)
    model.peft_config["default"].base_model_name_or_path = BASE_NAME
    model.save_pretrained(part, save_embedding_layers=False)
    (part / "README.md").unlink(missing_ok=True)
    lines = larkfield.samples(260, seed, larkfield.stable_facts())
    text = "".join(json.dumps({"text": line}) + "\n" for line in lines)
    (part / "samples.jsonl").write_text(text)
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(part.iterdir()):
        shutil.move(path, folder / path.name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    parser.add_argument("--folder", type=Path, default=ADAPTER)
    given = parser.parse_args()
    workers.run(work, given.workers, given.minutes, given.rate, given.seed, given.folder)


if __name__ == "__main__":
    main()
