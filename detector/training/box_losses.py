"""The losses of boxes in class and place, and the boxes that are worth learning from.

Losses are those of Fast R-CNN (Girshick, ICCV 2015, section 2.3); boxes are chosen as in Shrivastava, Gupta & Girshick
(CVPR 2016): all are looked at, and learned from are those of the largest losses, but of near duplicates only one.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from detector.boxes import Boxes
from detector.heads.suppression import nms

SAME_EXAMPLE = 0.7
"""Of two boxes of a larger IoU, only that of the larger loss is learned from."""


def box_losses(
    scores: torch.Tensor, deltas: torch.Tensor, labels: torch.Tensor, targets: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Losses of n boxes in class and in place, ``(n,)`` each.

    ``scores`` are ``(n, K + 1)``, background last, before the softmax; ``deltas`` ``(n, K, 4)``, of which only those
    of a box's own class count; ``labels`` ``(n,)`` int64 and ``targets`` ``(n, 4)``. The loss in class is the cross
    entropy; that in place the sum of smooth L1, x^2 / 2 for differences below 1 and |x| - 1 / 2 beyond, and 0 for
    background.
    """
    of_class = functional.cross_entropy(scores, labels, reduction="none")
    rows = (labels < deltas.shape[1]).nonzero()[:, 0]
    own = deltas[rows, labels[rows]]
    differences = functional.smooth_l1_loss(own, targets[rows], reduction="none").sum(1)
    return of_class, torch.zeros_like(of_class).index_put((rows,), differences)


def hardest(boxes: Boxes, losses: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Rows, at most ``count``, ascending, of the boxes ``(n, 4)`` with the largest losses ``(n,)``, but duplicates."""
    return np.sort(nms(boxes, losses, SAME_EXAMPLE)[:count])
