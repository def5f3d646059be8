"""Bilinear resampling by PyTorch, as the reference of `imaging::grid`.

Run: python make_grid_goldens.py   (needs torch; writes resample.json beside itself)
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


def main():
    torch.manual_seed(7)
    goldens = []
    for source, target in SIZES:
        image = (torch.rand(1, 1, source[1], source[0]) * 255).round()
        resampled = torch.nn.functional.interpolate(
            image.double(), size=(target[1], target[0]), mode="bilinear", align_corners=False
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
    Path(__file__).with_name("resample.json").write_text(f"[\n{text}\n]\n")


main()
