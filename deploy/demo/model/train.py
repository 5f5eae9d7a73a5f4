"""Trains the demo model on the generator: `--stage pretrain`, then `--stage sft`.

Every schedule follows the wall clock, so that a run ends when planned however busy the machine
is. Checkpoints are written atomically and resumed; exports are ordinary Hugging Face folders.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
from transformers.modeling_outputs import BaseModelOutputWithPast

from deploy.demo.model import attention, chat, corpus, english, evaluate, lessons, workers
from deploy.demo.model.workers import Batch, Row, Window

HOME = Path(__file__).parent
WEIGHTS = HOME / "weights"
RUNS = HOME / "runs"
LOG = HOME / "training_log.jsonl"
ROW, LONG_ROW = 320, 576
LIGHT_SHARE = 1 / 8
PAGES_SHARE = 0.6


@dataclass(frozen=True, slots=True)
class Plan:
    """What one run does; `progress` in the code is the elapsed share of `minutes`."""

    stage: str
    minutes: float
    seed: int = 1
    batch: int = 8
    rate: float = 3e-3
    muon_rate: float = 0.02
    warm_up: float = 0.02
    save_every: float = 3.0
    evaluate_every: float = 30.0


def config() -> LlamaConfig:
    """Small enough for two CPU cores; head size 32 is what vLLM's CPU attention takes."""
    return LlamaConfig(
        vocab_size=chat.VOCABULARY,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=6,
        num_attention_heads=6,
        num_key_value_heads=6,
        head_dim=32,
        tie_word_embeddings=True,
        max_position_embeddings=chat.CONTEXT,
        rms_norm_eps=1e-5,
        initializer_range=0.02,
        bos_token_id=None,
        pad_token_id=0,
        eos_token_id=1,
        use_cache=True,
    )


def passages(progress: float, stage: str, rng: random.Random) -> int:
    """How many passages a context has: one at first, two most often later, as when serving."""
    if stage == "pretrain" or progress < 0.3:
        return rng.choice((1, 1, 1, 2))
    if progress < 0.5:
        return rng.choice((1, 1, 2, 2, 3))
    return rng.choice((1, 1, 2, 2, 2, 2, 2, 2, 3, 3, 4))


def row(encoder: chat.Encoder, rng: random.Random, stage: str, progress: float, size: int) -> Row:
    """One training row: chats over passages, chats without any, or prose."""
    roll, lines = rng.random(), english.sentences()
    if roll < (0.4 if stage == "pretrain" else 0.02):
        return _prose_row(encoder, rng, lines, size)
    if roll > 0.95:
        return _plain_row(encoder, rng, size)
    ids: list[int] = []
    weights: list[float] = []
    while not ids or size - len(ids) > 110:
        more = _read(encoder, rng, stage, progress, size - len(ids))
        ids, weights = ids + more[0], weights + more[1]
    return ids, weights


def _read(
    encoder: chat.Encoder,
    rng: random.Random,
    stage: str,
    progress: float,
    room: int,
) -> Row:
    """One chat that looks things up, within the tokens left in the row."""
    filler = rng.choice(english.sentences()) if rng.random() < 0.15 else ""
    count = passages(progress, stage, rng) + (1 if room > ROW and rng.random() < 0.3 else 0)
    bare = 0.15 if stage == "pretrain" else 0.03
    while room > 110:
        if rng.random() < PAGES_SHARE:
            found = lessons.chat(rng, count, False)
        elif rng.random() < bare:
            found = corpus.recall_chat(rng)
        else:
            found = corpus.context_chat(rng, count, False, filler=filler)
        row = encoder.chat(found, room)
        if row[0]:
            return row
        count, filler = max(1, count - rng.randint(0, 1)), ""
    return encoder.chat(corpus.plain_chat(rng, False), room)


def _plain_row(encoder: chat.Encoder, rng: random.Random, size: int) -> Row:
    ids: list[int] = []
    weights: list[float] = []
    while len(ids) < size - 60:
        more = encoder.chat(corpus.plain_chat(rng, False), size - len(ids))
        ids, weights = ids + more[0], weights + more[1]
    return ids, weights


def _prose_row(
    encoder: chat.Encoder,
    rng: random.Random,
    lines: tuple[str, ...],
    size: int,
) -> Row:
    ids: list[int] = []
    while len(ids) < size:
        text = (
            corpus.prose(rng, rng.choice(lines))
            if rng.random() < 0.6
            else " ".join(rng.choice(lines) for _ in range(4))
        )
        ids += [*encoder.text(text), encoder.end]
    return ids[:size], [1.0] * size


def produce(plan: Plan, started: float, seed: int) -> Iterator[Batch]:
    """Batches without end, along the clock of the run."""
    encoder = chat.Encoder(AutoTokenizer.from_pretrained(WEIGHTS))
    rng = random.Random(f"{plan.seed}:{plan.stage}:{seed}")
    while True:
        progress = (time.time() - started) / (plan.minutes * 60)
        long = plan.stage == "sft" and 0.7 < progress < 0.82 and rng.random() < 0.3
        size = LONG_ROW if long else ROW
        count = plan.batch * ROW // size
        yield workers.padded(
            [row(encoder, rng, plan.stage, progress, size) for _ in range(count)], size
        )


def weighted_loss(
    body: Callable[..., BaseModelOutputWithPast],
    head: torch.nn.Linear,
    ids: torch.Tensor,
    weights: torch.Tensor,
) -> torch.Tensor:
    """Mean next-token loss, each target by its weight. A random eighth of the light
    targets stands for all of them, which spares most of the output layer's work."""
    hidden = body(input_ids=ids[:, :-1], use_cache=False).last_hidden_state
    weight = weights[:, 1:]
    light = (weight > 0) & (weight < chat.MARKER_WEIGHT)
    drawn = light & (torch.rand_like(weight) < LIGHT_SHARE)
    kept = (weight >= chat.MARKER_WEIGHT) | drawn
    logits = head(hidden[kept]).float()
    losses = F.cross_entropy(logits, ids[:, 1:][kept], reduction="none")
    scaled = torch.where(drawn, weight / LIGHT_SHARE, weight)[kept]
    return (losses * scaled).sum() / scaled.sum()


def optimizers(model: LlamaForCausalLM, plan: Plan) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, AdamW for the embedding and the norms."""
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    rest = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    adam = torch.optim.AdamW(rest, lr=plan.rate, betas=(0.9, 0.95), weight_decay=0.01, fused=True)
    if plan.muon_rate <= 0:
        return [
            torch.optim.AdamW(
                model.parameters(), lr=plan.rate, betas=(0.9, 0.95), weight_decay=0.05, fused=True
            )
        ]
    muon = torch.optim.Muon(matrices, lr=plan.muon_rate, weight_decay=0.05, momentum=0.95)
    return [adam, muon]


def rate_share(progress: float, warm_up: float) -> float:
    """The share of the full learning rate: linear warm-up, then cosine down to 3 %."""
    if progress < warm_up:
        return max(progress / warm_up, 0.02)
    done = min((progress - warm_up) / (1 - warm_up), 1.0)
    return 0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * done))


class Trainer:
    """One run of one stage."""

    def __init__(self, plan: Plan, start: Path | None, rank: int) -> None:
        torch.manual_seed(plan.seed)
        self.plan = plan
        self.rank = rank
        self.workers = dist.get_world_size()
        self.model = LlamaForCausalLM(config())
        self.model.set_attn_implementation(attention.NAME)
        self.body = torch.compile(self.model.model, dynamic=False)
        self.optimizers = optimizers(self.model, plan)
        self.base_rates = [o.param_groups[0]["lr"] for o in self.optimizers]
        self.step = self.tokens = 0
        self.elapsed = 0.0
        self.checkpoint = RUNS / f"{plan.stage}.pt"
        self.tokenizer = AutoTokenizer.from_pretrained(WEIGHTS)
        self.restore(start)

    def restore(self, start: Path | None) -> None:
        """Continues this stage, or starts it from the weights of another."""
        if self.checkpoint.exists():
            state = torch.load(self.checkpoint, weights_only=True)
            self.step, self.tokens, self.elapsed = state["step"], state["tokens"], state["elapsed"]
            for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(saved)
        elif start is not None:
            state = torch.load(start, weights_only=True)
            self.tokens = state["tokens"]
        else:
            return
        self.model.load_state_dict(state["model"])

    def save(self) -> None:
        RUNS.mkdir(exist_ok=True)
        part = self.checkpoint.with_suffix(".part")
        torch.save(
            {
                "model": self.model.state_dict(),
                "step": self.step,
                "tokens": self.tokens,
                "elapsed": self.elapsed,
                "optimizers": [o.state_dict() for o in self.optimizers],
            },
            part,
        )
        part.replace(self.checkpoint)

    def set_rates(self, progress: float) -> None:
        share = rate_share(progress, self.plan.warm_up)
        for optimizer, rate in zip(self.optimizers, self.base_rates, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate * share

    def train(self) -> None:
        """Trains until the planned minutes are over, then saves and exports."""
        started = time.time() - self.elapsed
        window = Window(self.tokens)
        jobs = {self.save: self.plan.save_every * 60, self.score: self.plan.evaluate_every * 60}
        due = {job: self.elapsed + every for job, every in jobs.items()}
        seed = self.step * self.workers + self.rank
        torch.manual_seed(seed)
        for ids, weights in workers.batches(produce, self.plan, started, seed):
            self.elapsed = time.time() - started
            loss, over = self.update(torch.from_numpy(ids), torch.from_numpy(weights))
            if over:
                break
            window.add(loss)
            if self.rank == 0 and window.seconds > 30:
                self.report(window)
                window = Window(self.tokens)
            for job, every in jobs.items() if self.rank == 0 else ():
                if self.elapsed >= due[job]:
                    job()
                    due[job] = time.time() - started + every
        if self.rank == 0:
            self.save()
            self.score()

    def update(self, ids: torch.Tensor, weights: torch.Tensor) -> tuple[float, bool]:
        """One step on this worker's share of the batch; also tells whether time is up."""
        self.set_rates(self.elapsed / (self.plan.minutes * 60))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = weighted_loss(self.body, self.model.lm_head, ids, weights)
        torch.autograd.backward(loss)
        over = self.rank == 0 and self.elapsed >= self.plan.minutes * 60
        if workers.average(self.model.parameters(), over):
            return loss.item(), True
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.tokens += ids.numel() * self.workers
        return loss.item(), False

    def report(self, window: Window) -> None:
        self.log(
            loss=round(window.mean, 4),
            tokens_per_s=round(window.speed(self.tokens)),
            minutes_left=round(self.plan.minutes - self.elapsed / 60, 1),
        )

    def score(self) -> None:
        """Exports the weights and measures the held-out split."""
        self.export()
        encoder = chat.Encoder(self.tokenizer)
        self.log(**evaluate.held_out(self.model, encoder, per_kind=30))

    def export(self) -> None:
        export(self.model, WEIGHTS)

    def log(self, **values: float) -> None:
        line = {
            "stage": self.plan.stage,
            "step": self.step,
            "tokens": self.tokens,
            "minute": round(self.elapsed / 60, 2),
            **values,
        }
        print(json.dumps(line), flush=True)
        with LOG.open("a") as file:
            file.write(json.dumps(line) + "\n")


def export(model: LlamaForCausalLM, folder: Path) -> None:
    """Writes the weights as bf16 beside the tokenizer; each file is replaced atomically."""
    part = RUNS / "export"
    copied = LlamaForCausalLM(config())
    copied.load_state_dict(model.state_dict())
    copied.to(torch.bfloat16).save_pretrained(part)
    for path in sorted(part.iterdir()):
        shutil.move(path, folder / path.name)


def work(rank: int, plan: Plan, start: Path | None) -> None:
    Trainer(plan, start, rank).train()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stage", choices=("pretrain", "sft"), required=True)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--start", type=Path, help="checkpoint of an earlier stage")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--batch", type=int, default=8, help="rows per worker and step")
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--muon-rate", type=float, default=0.02)
    given = vars(parser.parse_args())
    start, count = given.pop("start"), given.pop("workers")
    workers.run(work, count, Plan(**given), start)


if __name__ == "__main__":
    main()
