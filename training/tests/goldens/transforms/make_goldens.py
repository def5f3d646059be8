#!/usr/bin/env python3
"""Reference values of the random transforms, from SciPy in double precision.

    pip install numpy scipy
    python3 make_goldens.py            # writes transforms.json beside it

Each case is a draw without noise, the size (columns, rows) of what is seen, and images and mask after it. All cases begin
with the same stack: three channels and a mask. No sampled mask is at a half, where rounding would decide.
"""
import json
import math
import pathlib

import numpy as np
import scipy
from scipy import ndimage

HERE = pathlib.Path(__file__).resolve().parent
ROWS, COLUMNS = 14, 17
IDENTITY = {
    "mirror_columns": False, "mirror_rows": False, "angle": 0.0, "zoom": 1.0, "offset": [0.0, 0.0], "gamma": 1.0,
    "blur": 0.0, "factor": 1.0, "shift": 0.0, "sequences": [1.0, 1.0, 1.0], "missing": [False, False],
}
GEOMETRY = {"mirror_columns": True, "angle": -0.4, "zoom": 1.125, "offset": [1.5, -1.0]}
INTENSITIES = {
    "gamma": 1.375, "blur": 0.625, "factor": 0.875, "shift": -0.0625, "sequences": [1.25, 0.75, 1.125],
    "missing": [True, False],
}
CASES = [
    ({}, [COLUMNS, ROWS]),
    ({"offset": [2.0, -1.5]}, [13, 11]),
    ({"mirror_rows": True, "angle": 0.25}, [13, 10]),
    ({"zoom": 0.8125}, [COLUMNS, ROWS]),
    (GEOMETRY, [12, 10]),
    ({"gamma": 0.6875}, [COLUMNS, ROWS]),
    ({"blur": 0.75}, [5, 10]),
    ({"blur": 1.0}, [1, 4]),
    ({"sequences": [0.75, 1.25, 1.5], "missing": [False, True]}, [7, 4]),
    (INTENSITIES, [9, 8]),
    (GEOMETRY | INTENSITIES, [11, 12]),
]


def seen(plane, draw, size):
    """What the crop shows: SciPy's coordinates are (row, column), from the first pixel's centre."""
    sine, cosine = math.sin(draw["angle"]), math.cos(draw["angle"])
    turn = np.array([[cosine, sine], [-sine, cosine]])
    mirror = np.diag([-1.0 if draw["mirror_rows"] else 1.0, -1.0 if draw["mirror_columns"] else 1.0])
    matrix = turn @ mirror / draw["zoom"]
    target = (size[1], size[0])
    middle = (np.array(plane.shape) - 1) / 2 + np.array(draw["offset"][::-1])
    start = middle - matrix @ ((np.array(target) - 1) / 2)
    return ndimage.affine_transform(plane, matrix, start, target, order=1, mode="nearest")


def blurred(plane, share):
    kernel = np.ones((3, 3))
    total = ndimage.convolve(plane, kernel, mode="constant")
    count = ndimage.convolve(np.ones_like(plane), kernel, mode="constant")
    return (1 - share) * plane + share * total / count


def transformed(stack, draw, size):
    planes = [seen(plane, draw, size) for plane in stack]
    mask = planes.pop() >= 0.5
    before, flair, after = planes
    planes = [flair if draw["missing"][0] else before, flair, flair if draw["missing"][1] else after]
    images = [plane * factor for plane, factor in zip(planes, draw["sequences"])]
    images = [blurred(plane ** draw["gamma"], draw["blur"]) for plane in images]
    return np.stack(images) * draw["factor"] + draw["shift"], mask


def main():
    rng = np.random.default_rng(5)
    images = rng.uniform(0.05, 1.0, (3, ROWS, COLUMNS)).astype(np.float32).round(4)
    y, x = np.mgrid[:ROWS, :COLUMNS]
    mask = (x - 9) ** 2 / 20 + (y - 6) ** 2 / 9 < 1
    stack = np.concatenate([images.astype(np.float64), mask[None]])
    cases = []
    for changes, size in CASES:
        draw = IDENTITY | changes
        images_after, mask_after = transformed(stack, draw, size)
        cases.append({
            "draw": draw,
            "size": size,
            "images": [round(float(v), 7) for v in images_after.ravel()],
            "mask": [int(v) for v in mask_after.ravel()],
        })
    golden = {
        "versions": {"numpy": np.__version__, "scipy": scipy.__version__},
        "size": [COLUMNS, ROWS],
        "stack": [round(float(v), 4) for v in stack.ravel()],
        "cases": cases,
    }
    (HERE / "transforms.json").write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    main()
