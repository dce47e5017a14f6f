"""Learning rates, image sizes and weights of the moving average, step by step."""

from __future__ import annotations

import pytest
import torch

from detector.training.end_to_end.training import ema_weight, learning_rate, side_range


def test_the_learning_rate_rises_and_falls_as_half_a_cosine() -> None:
    assert learning_rate(0, 100, 0) == 1
    assert learning_rate(50, 100, 10) == pytest.approx(0.5)
    assert learning_rate(25, 100, 10) == pytest.approx((1 + 0.5**0.5) / 2)
    assert learning_rate(0, 1000, 10) == pytest.approx(0.1)
    assert learning_rate(9, 10**9, 10) == pytest.approx(1)
    assert 0 < learning_rate(99, 100, 10) < 1e-3


def test_sizes_move_from_the_first_to_the_last() -> None:
    assert side_range(0, 10, (200, 300), (400, 700)) == (200, 300)
    assert side_range(5, 10, (200, 300), (400, 700)) == (300, 500)


def test_the_average_forgets_its_start_and_then_slowly() -> None:
    assert ema_weight(0, 0.9) == 0.9
    assert ema_weight(10, 0.9) == pytest.approx(9 / 20)
    assert ema_weight(10**6, 0.9) == pytest.approx(0.1)
    # weights 0, then 1 for ever: the mean is what is left of the beginning
    mean, left = torch.zeros(()), 1.0
    for step in range(50):
        share = ema_weight(step, 0.95)
        mean.lerp_(torch.ones(()), share)
        left *= 1 - share
    assert float(mean) == pytest.approx(1 - left)
