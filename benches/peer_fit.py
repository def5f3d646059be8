#!/usr/bin/env python3
"""The original system's networks trained by PyTorch and MONAI: what `glioseg-train fit` is to agree with.

    python3 benches/peer_fit.py kaggle_3m --split split.json --out peer-1 --seed 1 --device cuda
    python3 benches/peer_fit.py kaggle_3m --split split.json --out peer-1 --seed 1 --device cuda --score-test

trains the UNet (or, with --network attention-unet, the Attention U-Net) at the best setting of the original system:
its loss, transforms, optimiser and clipping. The learning rate warms up over one epoch and falls by half a cosine, as
that of `fit` does. The epoch is chosen by the mean volume Dice of the validation patients at probability 0.5. The
figures are those of `glioseg-train evaluate` for a model at threshold 0.5 without a smallest component, over patients
of 256x256 slices.

The same by this repository, for the same seed:

    glioseg-train fit kaggle_3m --split split.json --out ours-1 --seed 1 --device auto --network unet-32 --epochs 50 \\
        --crop 224 --dropout 0.0197 --learning-rate 0.001087 --weight-decay 1e-5 --loss dice-focal --augment original \\
        --average 0 --clip 0.5 --tumour-share 0 --patience 50
    glioseg-train export ours-1/checkpoint.bin kaggle_3m --split split.json --out ours-1/plain.onnx --threshold 0.5 \\
        --minimum-component 1 --mirror false --score-test

Writes OUT/weights.pt (of the best epoch) and OUT/figures.json. Needs monai, torch, numpy and tifffile
(benches/requirements.txt).
"""

import argparse
import copy
import json
import math
import pathlib

import numpy as np
import tifffile
import torch
from monai.losses import DiceFocalLoss
from monai.networks.nets import AttentionUnet, UNet
from peers import BATCH, SIDE, original

# The original system's best trial of each network: learning rate, dropout.
SETTINGS = {"unet": (0.001087, 0.0197), "attention-unet": (2.72e-4, 0.057)}


def patient(folder):
    """Slices of a patient in order, `[slices, 4, 256, 256]` of 8-bit values; the last channel is the mask."""
    masks = sorted(folder.glob("*_mask.tif"), key=lambda path: int(path.stem.split("_")[-2]))
    if not masks:
        raise SystemExit(f"{folder}: has no *_mask.tif")
    slices = []
    for path in masks:
        image = tifffile.imread(path.with_name(path.name.replace("_mask", "")))
        mask = (tifffile.imread(path) > 0).astype(np.uint8) * 255
        if image.shape != (SIDE, SIDE, 3) or mask.shape != (SIDE, SIDE):
            raise SystemExit(f"{path}: the slice is not {SIDE}x{SIDE} with 3 channels")
        slices.append(np.concatenate([image, mask[..., None]], axis=2).transpose(2, 0, 1))
    return torch.from_numpy(np.stack(slices))


def patients(args, names):
    return [patient(args.data / name).to(args.device) for name in names]


def network(args):
    rate, dropout = SETTINGS[args.network]
    channels = [args.filters << level for level in range(5)]
    if args.network == "unet":
        net = UNet(2, 3, 1, channels, [2, 2, 2, 2], num_res_units=2, dropout=dropout)
    else:
        net = AttentionUnet(2, 3, 1, channels, [2, 2, 2, 2], dropout=dropout)
    return net.to(args.device), rate


def dice(overlap, areas):
    return 2 * overlap / areas if areas else 1.0


@torch.no_grad()
def figures(net, studies):
    """The four figures, at probability 0.5."""
    net.eval()
    volumes, tumour, everything, false = [], [], [], []
    for slices in studies:
        batches = slices.split(2 * BATCH)
        predicted = torch.cat([net(part[:, :3].float() / 255)[:, 0] >= 0 for part in batches])
        truth = slices[:, 3] > 0
        overlap = (predicted & truth).sum((1, 2)).tolist()
        areas = (predicted.sum((1, 2)) + truth.sum((1, 2))).tolist()
        volumes.append(dice(sum(overlap), sum(areas)))
        for both, area, has in zip(overlap, areas, truth.any(2).any(1).tolist()):
            everything.append(dice(both, area))
            if has:
                tumour.append(everything[-1])
            else:
                false.append(area > 0)
    return {
        "patients": len(volumes),
        "volume_dice_mean": float(np.mean(volumes)),
        "volume_dice_median": float(np.median(volumes)),
        "tumour_slice_dice": float(np.mean(tumour)),
        "all_slice_dice": float(np.mean(everything)),
        "false_positive_rate": float(np.mean(false)),
    }


def fit(args, split):
    training = torch.cat(patients(args, split["train"]))
    validation = patients(args, split["validation"])
    net, rate = network(args)
    criterion = DiceFocalLoss(sigmoid=True)
    optimiser = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=1e-5)
    steps = len(training) // BATCH
    best, chosen = None, None
    for epoch in range(args.epochs):
        net.train()
        order, total = torch.randperm(len(training)), 0.0
        for step in range(steps):
            done = epoch * steps + step
            after = (done - steps) / max(1, steps * (args.epochs - 1))
            factor = (done + 1) / steps if done < steps else 0.01 + 0.99 * (1 + math.cos(math.pi * after)) / 2
            optimiser.param_groups[0]["lr"] = rate * factor
            batch = training[order[step * BATCH :][:BATCH].to(args.device)].float() / 255
            images, truth = original(batch)
            loss = criterion(net(images), truth)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 0.5)
            optimiser.step()
            total += loss.detach()
        now = figures(net, validation)
        line = f"volume Dice {now['volume_dice_mean']:.4f}, false positives {now['false_positive_rate']:.3f}"
        print(f"epoch {epoch + 1}/{args.epochs}: loss {float(total) / steps:.4f}, {line}", flush=True)
        if best is None or now["volume_dice_mean"] > best["volume_dice_mean"]:
            best, chosen = now, copy.deepcopy(net.state_dict())
    torch.save(chosen, args.out / "weights.pt")
    return best


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=pathlib.Path, help="folder with one folder a patient")
    parser.add_argument("--split", type=pathlib.Path, required=True, help="JSON with the lists train, validation and test")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--network", choices=SETTINGS, default="unet")
    parser.add_argument("--filters", type=int, default=32, help="of the first block")
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--seed", type=int, default=155)
    parser.add_argument("--device", default="cpu", help="of PyTorch: cpu or cuda")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--score-test", action="store_true", help="score the trained weights in OUT on the test patients")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    split = json.loads(args.split.read_text())
    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out / "figures.json"
    if args.score_test:
        net, _ = network(args)
        net.load_state_dict(torch.load(args.out / "weights.pt", map_location=args.device, weights_only=True))
        found = json.loads(file.read_text())
        found["test"] = figures(net, patients(args, split["test"]))
    else:
        found = {"network": f"{args.network}-{args.filters}", "seed": args.seed, "epochs": args.epochs}
        found |= {"torch": torch.__version__, "device": args.device, "validation": fit(args, split)}
    file.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
