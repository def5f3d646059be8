"""Percentile clipping and z-score by NumPy, as the reference of `model::preprocess`.

Run: python make_normalization_goldens.py   (needs numpy; writes normalization.json beside itself)
"""

import json
from pathlib import Path

import numpy as np

WIDTH = HEIGHT = 16


def normalise(slices, low, high):
    volume = np.stack(slices).astype(np.float64)
    for channel in range(3):
        values = volume[..., channel]
        values = np.clip(values, *np.percentile(values, [low, high]))
        deviation = values.std()
        volume[..., channel] = (values - values.mean()) / deviation if deviation > 0 else 0
    return volume


def main():
    rng = np.random.default_rng(11)
    goldens = []
    for low, high, count in [(10, 99, 1), (10, 99, 3), (0, 100, 1), (2.5, 97.5, 2), (50, 50.7, 1)]:
        slices = []
        for _ in range(count):
            # Half background, as in a scan, and one channel nearly constant.
            image = rng.gamma(2.0, 30.0, (HEIGHT, WIDTH, 3)).clip(0, 255)
            image[rng.random((HEIGHT, WIDTH)) < 0.4] = 0
            image[..., 2] = rng.integers(100, 103, (HEIGHT, WIDTH))
            slices.append(image.astype(np.uint8))
        output = normalise(slices, low, high)[0].transpose(2, 0, 1)
        goldens.append(
            {
                "low": low,
                "high": high,
                "width": WIDTH,
                "height": HEIGHT,
                "slices": [s.flatten().tolist() for s in slices],
                "output": [round(v, 6) for v in output.flatten().tolist()],
            }
        )
    text = ",\n".join(json.dumps(golden, separators=(",", ":")) for golden in goldens)
    Path(__file__).with_name("normalization.json").write_text(f"[\n{text}\n]\n")


main()
