#!/usr/bin/env python3
"""Rank correlations by SciPy and reliability bins by NumPy, as the reference of `scoring`.

    pip install numpy scipy
    python3 make_calibration_goldens.py       # writes calibration.json beside it

A slice is its probabilities, which are single-precision numbers, and its truth, `#` for tumour, in rows of `width`.
"""
import json
import pathlib

import numpy as np
import scipy
from scipy.stats import spearmanr

BINS = 15


def correlation(name, x, y):
    rho = spearmanr(x, y).statistic
    return {"name": name, "x": [float(v) for v in x], "y": [float(v) for v in y], "rho": float(rho)}


def correlations():
    rng = np.random.default_rng(7)
    x = rng.standard_normal(40).round(4)
    yield correlation("continuous", x, (x + rng.standard_normal(40)).round(4))
    yield correlation("against each other", x, (rng.standard_normal(40) - 2 * x).round(4))
    yield correlation("ties on both sides", rng.integers(0, 5, 60), rng.integers(0, 3, 60))
    dice = np.clip(rng.normal(0.8, 0.3, 50), 0, 1).round(2)
    yield correlation("piled up at the ends", np.clip(dice + rng.normal(0, 0.1, 50), 0, 1).round(3), dice)
    yield correlation("two pairs", [3, 1], [5, 9])
    yield correlation("one value apart", [0] * 9 + [1], range(10))


def slice_of(name, rng, height, width, sharpness):
    """Tumour is as likely as the probability says where `sharpness` is 1; more leaves the model too sure."""
    chance = rng.beta(0.4, 1.2, (height, width))
    truth = rng.random((height, width)) < chance
    odds = (chance / (1 - chance)) ** sharpness
    probability = (odds / (1 + odds)).astype(np.float32)
    probability[0, :2] = 0, 1

    p, t = probability.astype(np.float64).ravel(), truth.ravel()
    edges = np.linspace(0, 1, BINS + 1)
    number = np.digitize(p, edges[1:-1])
    counts = np.bincount(number, minlength=BINS)
    with np.errstate(invalid="ignore"):
        mean = np.bincount(number, weights=p, minlength=BINS) / counts
        share = np.bincount(number, weights=t, minlength=BINS) / counts
    gap = np.abs(mean - share)
    return {
        "name": name,
        "width": width,
        "probability": [float(v) for v in p],
        "truth": "".join("#" if v else "." for v in t),
        "ece": float(np.nansum(counts / counts.sum() * gap)),
        "pixels": counts.tolist(),
        "mean_probability": [None if np.isnan(v) else float(v) for v in mean],
        "tumour_share": [None if np.isnan(v) else float(v) for v in share],
    }


def slices():
    rng = np.random.default_rng(8)
    yield slice_of("as sure as it may be", rng, 12, 16, 1)
    yield slice_of("too sure", rng, 9, 11, 3)
    yield slice_of("nearly binary", rng, 5, 8, 12)


def main():
    goldens = {
        "versions": {"numpy": np.__version__, "scipy": scipy.__version__},
        "correlations": list(correlations()),
        "slices": list(slices()),
    }
    path = pathlib.Path(__file__).with_name("calibration.json")
    path.write_text(json.dumps(goldens) + "\n")


main()
