"""Bilinear resampling by PyTorch, without and with anti-aliasing, as the reference of `imaging::grid`.

Run: python make_grid_goldens.py   (needs torch; writes resample.json and shrink.json beside itself)
"""

import json
from pathlib import Path

import torch

SIZES = [  # (columns, rows) from and to
    ((1, 1), (4, 3)),
    ((4, 3), (1, 1)),
    ((5, 7), (16, 16)),
    ((16, 16), (5, 7)),
    ((17, 9), (16, 16)),
    ((8, 8), (8, 8)),
    ((3, 11), (11, 3)),
    ((2, 1), (7, 5)),
    ((31, 2), (16, 16)),
]
SHRINKS = [
    ((32, 32), (16, 16)),
    ((20, 20), (16, 16)),
    ((16, 16), (16, 16)),
    ((17, 9), (16, 8)),
    ((40, 10), (16, 4)),
    ((9, 31), (3, 11)),
    ((33, 1), (5, 1)),
    ((2, 7), (2, 2)),  # of a single column PyTorch 2.15 gives one value for every row; Pillow does not
    ((25, 18), (1, 1)),
]


def write(name, sizes, antialias):
    torch.manual_seed(7)
    goldens = []
    for source, target in sizes:
        image = (torch.rand(1, 1, source[1], source[0]) * 255).round()
        resampled = torch.nn.functional.interpolate(
            image.double(), size=(target[1], target[0]), mode="bilinear", align_corners=False, antialias=antialias
        )
        goldens.append(
            {
                "from": source,
                "to": target,
                "input": image.flatten().tolist(),
                "output": [round(v, 6) for v in resampled.flatten().tolist()],
            }
        )
    text = ",\n".join(json.dumps(golden) for golden in goldens)
    Path(__file__).with_name(name).write_text(f"[\n{text}\n]\n")


write("resample.json", SIZES, False)
write("shrink.json", SHRINKS, True)
