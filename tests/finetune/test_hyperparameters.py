"""What `auto` settles on."""

from __future__ import annotations

import pytest

from serving.finetune.hyperparameters import MAX_AUTO_EPOCHS, base_rate, settle

TINY, LARGE = 3_738_048, 7_000_000_000


@pytest.mark.parametrize(
    ("examples", "parameters", "epochs", "batch"),
    [
        (10, TINY, 25, 4),
        (200, TINY, 6, 4),
        (1_000, TINY, 5, 16),
        (50, LARGE, 8, 4),
        (1_000, LARGE, 2, 16),
        (100_000, LARGE, 1, 32),
    ],
)
def test_auto_depends_on_the_file_and_the_model(
    examples: int, parameters: int, epochs: int, batch: int
) -> None:
    settled = settle({}, "supervised", examples, parameters)
    assert (settled.n_epochs, settled.batch_size) == (epochs, batch)
    assert settled.n_epochs <= MAX_AUTO_EPOCHS


def test_what_was_asked_for_is_done() -> None:
    wanted = {"n_epochs": 2, "batch_size": 5, "learning_rate_multiplier": 0.5, "beta": 0.3}
    settled = settle(wanted, "dpo", 100, TINY)
    assert settled.shown() == wanted
    assert settled.learning_rate == pytest.approx(0.5 * 0.1 * base_rate(TINY))
    assert settle(wanted, "supervised", 100, TINY).beta is None


def test_a_batch_is_no_larger_than_the_file() -> None:
    assert settle({"batch_size": 64}, "supervised", 12, TINY).batch_size == 12


def test_large_models_learn_at_a_lower_rate() -> None:
    assert base_rate(LARGE) == pytest.approx(2e-4)
    assert base_rate(2_000_000) == pytest.approx(3e-3)
    assert 2e-4 < base_rate(500_000_000) < base_rate(TINY) < 3e-3
