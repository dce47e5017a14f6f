"""A part of a real photograph, small enough for slow twins."""

import numpy as np
from skimage.data import astronaut

PHOTOGRAPH = np.ascontiguousarray(astronaut()[:260, 100:400])
