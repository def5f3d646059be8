#!/usr/bin/env python3
"""Reference values from SciPy and scikit-image, for tests of components, contours and surface distances.

    pip install numpy scipy scikit-image
    python3 make_mask_goldens.py       # writes masks.json beside it

A mask is its shape and numpy.packbits of its pixels, in hexadecimal. Components are listed by their first
pixels, row by row. Boxes are [x, y, width, height].
"""
import json
import pathlib

import numpy as np
import scipy
import skimage
from scipy import ndimage
from skimage.measure import euler_number, regionprops

HERE = pathlib.Path(__file__).resolve().parent
CONNECTIVITIES = {"sides": 1, "corners": None}


def packed(mask):
    return {"shape": list(mask.shape), "bits": np.packbits(mask).tobytes().hex()}


def components(mask, connectivity):
    rank = CONNECTIVITIES[connectivity] or mask.ndim
    labels, count = ndimage.label(mask, ndimage.generate_binary_structure(mask.ndim, rank))
    regions = regionprops(labels)
    regions.sort(key=lambda r: np.ravel_multi_index(r.coords.T, mask.shape).min())
    assert len(regions) == count
    out = []
    for r in regions:
        half = len(r.bbox) // 2
        low, high = r.bbox[:half], r.bbox[half:]
        box = [low[-1], low[-2], high[-1] - low[-1], high[-2] - low[-2]]
        out.append({"size": int(r.area), "box": [int(v) for v in box], "slices": [int(low[0]), int(high[0])] if half == 3 else [0, 1]})
    return out


def crack_length(mask):
    padded = np.pad(mask, 1).astype(int)
    return int(np.abs(np.diff(padded, axis=0)).sum() + np.abs(np.diff(padded, axis=1)).sum())


def blobs(seed, shape, level):
    return ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 2) > level


def noise(seed, shape, density):
    return np.random.default_rng(seed).random(shape) < density


def seeded(mask):
    """A few pixels, and what spreads from them within the mask through sides and corners."""
    seeds = noise(mask.size, mask.shape, 0.02)
    spread = ndimage.binary_propagation(seeds & mask, np.ones((3,) * mask.ndim), mask)
    return {"seeds": packed(seeds)["bits"], "seeded": packed(spread)["bits"]}


def flat():
    cases = {f"noise {d}": noise(i, (33, 70), d) for i, d in enumerate((0.05, 0.3, 0.41, 0.59, 0.8, 0.97))}
    cases |= {f"blobs {i}": blobs(i, (48, 131), 0.05) for i in range(3)}
    cases |= {"empty": np.zeros((5, 9), bool), "full": np.ones((9, 64), bool), "one row": noise(7, (1, 200), 0.5), "one column": noise(8, (200, 1), 0.5)}
    cases["checkerboard"] = np.indices((12, 13)).sum(0) % 2 == 0
    return [{"name": name, **packed(m), **{c: components(m, c) for c in CONNECTIVITIES}, **seeded(m),
             "filled": packed(ndimage.binary_fill_holes(m))["bits"],
             "euler_number_8": int(euler_number(m, connectivity=2)), "crack_length": crack_length(m)} for name, m in cases.items()]


def deep():
    cases = {f"noise {d}": noise(i, (6, 17, 23), d) for i, d in enumerate((0.05, 0.2, 0.31, 0.6))}
    cases |= {"blobs": blobs(5, (9, 30, 41), 0.08), "one slice": noise(6, (1, 20, 20), 0.4)}
    return [{"name": name, **packed(m), **{c: components(m, c) for c in CONNECTIVITIES}, **seeded(m)} for name, m in cases.items()]


def surfaces():
    """MONAI's definitions, with a spacing, by SciPy's exact Euclidean distance transform."""
    def edge(m):
        return m & ~ndimage.binary_erosion(m)

    out = []
    for seed, spacing in enumerate(((1.0, 1.0), (0.9, 1.7), (5.0, 0.5), (1.0, 1.0))):
        shape = (40, 56)
        a, b = (blobs(2 * seed + k, shape, 0.06) if seed < 3 else noise(2 * seed + k, shape, 0.02) for k in (0, 1))
        there = ndimage.distance_transform_edt(~edge(b), sampling=spacing)[edge(a)]
        back = ndimage.distance_transform_edt(~edge(a), sampling=spacing)[edge(b)]
        out.append({"prediction": packed(a), "truth": packed(b), "spacing": spacing, "hd": max(there.max(), back.max()),
                    "hd95": max(np.quantile(there, 0.95), np.quantile(back, 0.95)), "average": np.concatenate((there, back)).mean()})
    return out


versions = {"numpy": np.__version__, "scipy": scipy.__version__, "skimage": skimage.__version__}
goldens = {"versions": versions, "flat": flat(), "deep": deep(), "surfaces": surfaces()}
(HERE / "masks.json").write_text(json.dumps(goldens, separators=(",", ":")) + "\n")
