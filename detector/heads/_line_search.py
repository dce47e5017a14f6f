"""Compiled sums over samples that the SVM solver needs: losses, dual variables and exact line searches.

The hinge is smoothed over ``1 - smoothing < z < 1`` by a parabola (quadratic there, linear below, 0 above); the squared
hinge is the same parabola with smoothing 1/2 and without the linear part.
"""

from __future__ import annotations

import numpy as np

from detector.compiling import kernel


@kernel
def loss_terms(scores, targets, costs, smoothing, squared):  # type: ignore[no-untyped-def]
    """Dual variables ``(K, N)`` float32 of the smoothed problem at ``scores`` ``(K, N)``, and four sums a class.

    The sums ``(K, 4)`` float64: exact loss, smoothed loss, and the linear and the quadratic part of the dual.
    """
    n_classes, n_samples = scores.shape
    dual = np.zeros((n_classes, n_samples), np.float32)
    sums = np.zeros((n_classes, 4), np.float64)
    width = 0.5 if squared else smoothing
    for k in range(n_classes):
        for i in range(n_samples):
            cost = costs[k, i]
            slack = 1.0 - targets[k, i] * scores[k, i]
            if cost == 0.0 or slack <= 0.0:
                continue
            if squared or slack < width:
                share = slack / width
                smoothed = slack * share / 2.0
            else:
                share = 1.0
                smoothed = slack - width / 2.0
            dual[k, i] = cost * share
            sums[k, 0] += cost * (slack * slack if squared else slack)
            sums[k, 1] += cost * smoothed
            sums[k, 2] += cost * share
            sums[k, 3] += cost * share * share * width / 2.0
    return dual, sums


@kernel
def step_lengths(scores, slopes, targets, costs, products, smoothing, squared):  # type: ignore[no-untyped-def]
    """Minimiser ``(K,)`` float64 of each class's smoothed problem along a direction.

    ``slopes`` ``(K, N)`` are the scores of the direction, ``products`` ``(2, K)`` its inner products with the
    variables and with itself. The derivative along the direction is piecewise linear and rises, so Newton's method
    inside a bracket finds its zero.
    """
    lengths = np.zeros(scores.shape[0], np.float64)
    for k in range(scores.shape[0]):
        if products[1, k] == 0.0:
            continue
        low, high, length = 0.0, np.inf, 1.0
        for _ in range(30):
            first, second = _derivatives(scores[k], slopes[k], targets[k], costs[k], length, smoothing, squared)
            first += products[0, k] + length * products[1, k]
            second += products[1, k]
            if first > 0.0:
                high = length
            else:
                low = length
            move = first / second
            if abs(move) <= 1e-4 * length:
                break
            length -= move
            if length <= low or length >= high:
                length = 2.0 * low + 1e-6 if high == np.inf else (low + high) / 2.0
        lengths[k] = length
    return lengths


@kernel
def _derivatives(scores, slopes, targets, costs, length, smoothing, squared):  # type: ignore[no-untyped-def]
    width = 0.5 if squared else smoothing
    first = 0.0
    second = 0.0
    for i in range(scores.shape[0]):
        cost = costs[i]
        slack = 1.0 - targets[i] * (scores[i] + length * slopes[i])
        if cost == 0.0 or slack <= 0.0:
            continue
        rise = -targets[i] * slopes[i]
        if squared or slack < width:
            first += cost * rise * slack / width
            second += cost * rise * rise / width
        else:
            first += cost * rise
    return first, second
