#!/usr/bin/env python3
"""What a change to network, input or loss is worth, tried in PyTorch before it becomes part of the trainer.

    python3 benches/candidates.py kaggle_3m --split split.json --out candidates --candidate base --fold 0
    python3 benches/candidates.py kaggle_3m --split split.json --out candidates --table

trains one candidate without one fold of the split, by the recipe of `glioseg-train cross-validate --epochs 10`: its
network, first weights, transforms, loss, optimiser, schedule and moving average, but for the random numbers. No patient of the fold has a say: the network is that of the last epoch, and every candidate
is scored at probability 0.5 with a smallest component of 64 pixels, on each slice and its mirror image. Test patients are
never opened. Writes OUT/CANDIDATE-FOLD.json; --table prints what is in OUT.

`base` is `efficient-lite0` as it is. The others change one thing:

  context  2.5-D: the slices before and after as six more channels of the first convolution, which begin at zero. Half of
           the samples see a slice repeated instead, so that one slice by itself is input, too; both are scored.
  head     each sequence of a slice minus the mean of the head (what is brighter than a tenth of the 99th percentile) by
           its standard deviation, in place of x / 255
  deep     deep supervision: a 1x1 convolution to logits after each block of the decoder, whose losses against the mask at
           that resolution count a half, a quarter and an eighth
  se       squeeze-and-excitation (Hu et al. 2018) at the end of each block of the decoder
  focal    focal loss (gamma 2) in place of the cross-entropy
  mixup    each sample mixed with another one, masks as well, by a share from Beta(0.2, 0.2) (Zhang et al. 2018)
  bce      nothing but cross-entropy
  segformer  no pre-trained encoder: the transformer of SegFormer-B0 (Xie et al. 2021) with its decoder

Needs torch, safetensors, numpy, scipy and tifffile.
"""

import argparse
import copy
import json
import math
import pathlib
import time

import numpy as np
import tifffile
import torch
from safetensors.torch import load_file
from scipy import ndimage
from torch import nn
from torch.nn import functional as F

CROP, SIDE, BATCH = 192, 256, 16
LEAST_PIXELS = 64
ENCODER = pathlib.Path(__file__).parents[1] / "training/encoders/efficientnet-lite0.safetensors"
CANDIDATES = ["base", "context", "head", "deep", "se", "focal", "mixup", "bce", "segformer"]
# Blocks, kernel, stride, expansion, channels in and out.
STAGES = [
    (1, 3, 1, 1, 32, 16),
    (2, 3, 2, 6, 16, 24),
    (2, 5, 2, 6, 24, 40),
    (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112),
    (4, 5, 2, 6, 112, 192),
]
SKIPS, DECODER = [16, 24, 40, 112], [16, 24, 48, 96]


class Inverted(nn.Module):
    """An inverted residual block of EfficientNet-Lite."""

    def __init__(self, channels, out, kernel, stride, expansion):
        super().__init__()
        wide = channels * expansion
        if expansion > 1:
            self._expand_conv = nn.Conv2d(channels, wide, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(wide, eps=1e-3)
        self._depthwise_conv = nn.Conv2d(wide, wide, kernel, stride, kernel // 2, groups=wide, bias=False)
        self._bn1 = nn.BatchNorm2d(wide, eps=1e-3)
        self._project_conv = nn.Conv2d(wide, out, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(out, eps=1e-3)
        self.expands, self.identity = expansion > 1, stride == 1 and channels == out

    def forward(self, x):
        y = F.relu(self._bn0(self._expand_conv(x))) if self.expands else x
        y = F.relu(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.identity else y


class Residual(nn.Module):
    def __init__(self, channels, squeeze):
        super().__init__()
        self.first, self.second = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(2))
        for layer in (self.first, self.second):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
        inner = max(8, channels // 4)
        gate = [nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, inner, 1), nn.ReLU(), nn.Conv2d(inner, channels, 1)]
        self.gate = nn.Sequential(*gate, nn.Sigmoid()) if squeeze else None

    def forward(self, x):
        y = self.norms[1](self.second(F.relu(self.norms[0](self.first(x)))))
        return F.relu(x + (y * self.gate(y) if self.gate else y))


class EfficientLite0(nn.Module):
    """`efficient-lite0`, with what a candidate adds to it."""

    def __init__(self, context=False, deep=False, squeeze=False):
        super().__init__()
        self._conv_stem = nn.Conv2d(3, 32, 3, 2, 1)
        self._bn0 = nn.BatchNorm2d(32, eps=1e-3)
        self._blocks, self.strides = nn.ModuleList(), []
        for blocks, kernel, stride, expansion, channels, out in STAGES:
            for first in [True] + [False] * (blocks - 1):
                self.strides.append(stride if first else 1)
                self._blocks.append(Inverted(channels if first else out, out, kernel, self.strides[-1], expansion))
        missing, unexpected = self.load_state_dict(load_file(ENCODER), strict=False)
        assert not unexpected and all("num_batches_tracked" in name for name in missing)
        if context:
            stem = nn.Conv2d(9, 32, 3, 2, 1)
            with torch.no_grad():
                stem.weight.zero_()
                stem.weight[:, 3:6] = self._conv_stem.weight
                stem.bias.copy_(self._conv_stem.bias)
            self._conv_stem = stem
        below = [24, 48, 96, 192]
        self.up = nn.ModuleList(nn.Conv2d(below[i], DECODER[i], 1) for i in range(4))
        self.lateral = nn.ModuleList(nn.Conv2d(SKIPS[i], DECODER[i], 1) for i in range(4))
        self.decoder = nn.ModuleList(Residual(DECODER[i], squeeze) for i in range(1, 4))
        self.head = nn.ConvTranspose2d(DECODER[0], 1, 4, 2, 1)
        self.heads = nn.ModuleList(nn.Conv2d(DECODER[i], 1, 1) for i in range(1, 4)) if deep else None

    def forward(self, x):
        x = F.relu(self._bn0(self._conv_stem(x)))
        skips, more = [], []
        for block, stride in zip(self._blocks, self.strides):
            if stride == 2:
                skips.append(x)
            x = block(x)
        x = F.dropout(x, 0.1, self.training)
        for level in reversed(range(4)):
            x = F.interpolate(self.up[level](x), scale_factor=2, mode="nearest") + self.lateral[level](skips[level])
            if level > 0:
                x = self.decoder[level - 1](x)
                if self.heads and self.training:
                    more.append(self.heads[level - 1](x))
        return [self.head(x), *reversed(more)]


class Attention(nn.Module):
    """A layer of SegFormer: attention to keys of a lower resolution, then a feed-forward part with a convolution."""

    def __init__(self, width, heads, reduction):
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.reduce = nn.Conv2d(width, width, reduction, reduction) if reduction > 1 else None
        self.after = nn.LayerNorm(width) if reduction > 1 else None
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.mix = nn.Conv2d(4 * width, 4 * width, 3, padding=1, groups=4 * width)

    def forward(self, x):
        size = x.shape[2:]

        def image(tokens):
            return tokens.transpose(1, 2).unflatten(2, size)

        tokens = x.flatten(2).transpose(1, 2)
        query = key = self.norms[0](tokens)
        if self.reduce:
            key = self.after(self.reduce(image(query)).flatten(2).transpose(1, 2))
        tokens = tokens + self.attention(query, key, key, need_weights=False)[0]
        wide = self.mix(image(self.wide(self.norms[1](tokens)))).flatten(2).transpose(1, 2)
        return image(tokens + self.narrow(F.gelu(wide)))


class SegFormer(nn.Module):
    """SegFormer-B0 with its logits enlarged four times."""

    def __init__(self):
        super().__init__()
        widths, heads, reductions = [32, 64, 160, 256], [1, 2, 5, 8], [8, 4, 2, 1]
        self.patches, self.stages = nn.ModuleList(), nn.ModuleList()
        for level, width in enumerate(widths):
            kernel, stride, channels = (7, 4, 3) if level == 0 else (3, 2, widths[level - 1])
            self.patches.append(nn.Conv2d(channels, width, kernel, stride, kernel // 2))
            self.stages.append(nn.Sequential(*(Attention(width, heads[level], reductions[level]) for _ in range(2))))
        self.norms = nn.ModuleList(nn.GroupNorm(1, width) for width in widths)
        self.project = nn.ModuleList(nn.Conv2d(width, 256, 1) for width in widths)
        self.fuse = nn.Sequential(nn.Conv2d(1024, 256, 1, bias=False), nn.BatchNorm2d(256), nn.ReLU(), nn.Dropout2d(0.1))
        self.head = nn.Conv2d(256, 1, 1)

    def forward(self, x):
        size, levels = x.shape[2:], []
        for patch, stage, norm, project in zip(self.patches, self.stages, self.norms, self.project):
            x = norm(stage(patch(x)))
            levels.append(F.interpolate(project(x), (size[0] // 4, size[1] // 4), mode="bilinear"))
        return [F.interpolate(self.head(self.fuse(torch.cat(levels, 1))), size, mode="bilinear")]


def dice_by(overlap, areas):
    return 1 - (2 * overlap + 1e-5) / (areas + 1e-5)


def loss_of(logits, truth, candidate):
    """`tumour-dice-ce`, or what a candidate has in its place."""
    cross_entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    if candidate == "bce":
        return cross_entropy.mean()
    p = torch.sigmoid(logits)
    if candidate == "focal":
        cross_entropy = cross_entropy * (p - truth).abs() ** 2
    overlap, areas, tumour = (p * truth).sum((1, 2, 3)), (p + truth).sum((1, 2, 3)), truth.sum((1, 2, 3))
    loss = cross_entropy.mean() + 0.5 * dice_by(overlap.sum(), areas.sum())
    has = tumour > 0
    return loss + 0.5 * dice_by(overlap[has], areas[has]).mean() if has.any() else loss


def head_normalised(images):
    """Every channel of every image by the mean and the deviation of what is brighter than a tenth of its 99th percentile,
    brought to the range that the encoder knows."""
    flat = images.flatten(2)
    bright = torch.quantile(flat[:, :, ::7], 0.99, dim=2, keepdim=True)
    head = (flat > 0.1 * bright).float()
    count = head.sum(2, keepdim=True).clamp_min(1)
    mean = (flat * head).sum(2, keepdim=True) / count
    deviation = (((flat - mean) ** 2 * head).sum(2, keepdim=True) / count).sqrt().clamp_min(1e-3)
    return (((flat - mean) / deviation) * 0.15 + 0.3).clamp(0, 1.5).view_as(images)


def transformed(batch, generator):
    """The strong transforms of the trainer for `[batch, 3 n + 1, 256, 256]`, the last channel the mask: images and
    masks of CROP pixels."""
    samples, groups = len(batch), (batch.shape[1] - 1) // 3

    def uniform(low, high, *shape):
        return torch.rand(shape or (samples,), generator=generator) * (high - low) + low

    def happens(probability, *shape):
        return (torch.rand(shape or (samples,), generator=generator) < probability).float()

    def symmetric(probability, reach, *shape):
        return happens(probability, *shape) * uniform(-reach, reach, *shape)

    def each(values):
        return values.view(samples, 1, 1, 1)

    axis, half = torch.arange(CROP) - (CROP - 1) / 2, (SIDE - 1) / 2
    angle, zoom = symmetric(0.7, 0.4), 1 + symmetric(0.7, 0.2)
    scale_x, scale_y = (1 - 2 * happens(0.5)) / zoom / half, (1 - 2 * happens(0.1)) / zoom / half
    offset = torch.randint(0, SIDE - CROP + 1, (samples, 2), generator=generator) - (SIDE - CROP) / 2
    sine, cosine = torch.sin(angle), torch.cos(angle)
    x, y = axis.view(1, 1, CROP), axis.view(1, CROP, 1)
    plane = lambda values: values.view(samples, 1, 1)
    from_x = x * plane(cosine * scale_x) - y * plane(sine * scale_y) + plane(offset[:, 0] / half)
    from_y = x * plane(sine * scale_x) + y * plane(cosine * scale_y) + plane(offset[:, 1] / half)
    grid = torch.stack([from_x, from_y], dim=3)
    batch = F.grid_sample(batch, grid, "bilinear", "border", align_corners=True)
    images, truth = batch[:, :-1].unflatten(1, (groups, 3)), (batch[:, -1:] >= 0.5).float()
    missing = happens(0.15, samples, 1, 3, 1, 1)
    missing[:, :, 1] = 0
    images = images + (images[:, :, 1:2] - images) * missing
    images = images * (1 + symmetric(0.5, 0.7, samples, 1, 3, 1, 1))
    images = images.flatten(1, 2)
    images = images.clamp_min(1e-6) ** each(symmetric(0.5, math.log(2)).exp())
    images = images + (F.avg_pool2d(images, 3, 1, 1, count_include_pad=False) - images) * each(symmetric(0.2, 1).abs())
    images = images * each(1 + symmetric(0.5, 0.2)) + each(symmetric(0.5, 0.1))
    noise = torch.randn(images.shape, generator=generator)
    return images + noise * each(symmetric(0.3, 0.06).abs()), truth


def patient(folder):
    """Slices of a patient in order: images `[slices, 3, 256, 256]` and masks `[slices, 1, 256, 256]`, 0 to 255."""
    masks = sorted(folder.glob("*_mask.tif"), key=lambda path: int(path.stem.split("_")[-2]))
    images = np.stack([tifffile.imread(path.with_name(path.name.replace("_mask", ""))) for path in masks])
    truth = np.stack([(tifffile.imread(path) > 0) * np.uint8(255) for path in masks])
    return torch.from_numpy(images.transpose(0, 3, 1, 2).copy()), torch.from_numpy(truth[:, None])


def with_neighbours(images, repeated):
    """The slice before, the slice and the slice after; the first and the last repeat themselves, or every one does."""
    if repeated:
        return images.repeat(1, 3, 1, 1)
    return torch.cat([torch.cat([images[:1], images[:-1]]), images, torch.cat([images[1:], images[-1:]])], 1)


def prepared(images, candidate):
    images = images.float() / 255
    return head_normalised(images) if candidate == "head" else images


def without_small(mask):
    labels, count = ndimage.label(mask, np.ones((3, 3)))
    if not count:
        return mask
    return mask & (np.bincount(labels.ravel()) >= LEAST_PIXELS)[labels]


@torch.no_grad()
def figures(net, studies, candidate, device, repeated):
    """The four figures, and the volume Dice of every patient."""
    volumes, tumour, everything, false = {}, [], [], []
    for name, (images, truth) in studies.items():
        if candidate == "context":
            images = with_neighbours(images, repeated)
        masks = []
        for part in images.split(BATCH):
            part = prepared(part, candidate).to(device, memory_format=torch.channels_last)
            logits = net(part)[0] + net(part.flip(3))[0].flip(3)
            masks += [without_small(mask) for mask in (logits[:, 0] >= 0).cpu().numpy()]
        predicted, truth = np.stack(masks), (truth[:, 0] > 0).numpy()
        overlap, areas = (predicted & truth).sum((1, 2)), predicted.sum((1, 2)) + truth.sum((1, 2))
        volumes[name] = float(2 * overlap.sum() / areas.sum())
        dice = np.where(areas > 0, 2 * overlap / np.maximum(areas, 1), 1.0)
        has = truth.any((1, 2))
        tumour += dice[has].tolist()
        everything += dice.tolist()
        false += (areas[~has] > 0).tolist()
    means = {
        "volume_dice_mean": float(np.mean(list(volumes.values()))),
        "volume_dice_median": float(np.median(list(volumes.values()))),
        "tumour_slice_dice": float(np.mean(tumour)),
        "all_slice_dice": float(np.mean(everything)),
        "false_positive_rate": float(np.mean(false)),
    }
    return means | {"slices": [len(everything), len(tumour)], "volume_dice": volumes}


def train(args, split):
    everybody = split["folds"]
    held_out = everybody[args.fold]
    names = [name for number, fold in enumerate(everybody) if number != args.fold for name in fold]
    studies = {name: patient(args.data / name) for name in names}
    rows = [(name, number) for name in names for number in range(len(studies[name][0]))]
    has = np.array([bool(studies[name][1][number].any()) for name, number in rows])
    torch.manual_seed(args.seed)
    generator = torch.Generator().manual_seed(args.seed)
    options = {"context": "context", "deep": "deep", "se": "squeeze"}
    option = {options[args.candidate]: True} if args.candidate in options else {}
    net = SegFormer() if args.candidate == "segformer" else EfficientLite0(**option)
    net = net.to(args.device, memory_format=torch.channels_last)
    average = copy.deepcopy(net).eval()
    optimiser = torch.optim.AdamW(net.parameters(), lr=args.rate, weight_decay=0.01)
    tumour, empty = np.flatnonzero(has), np.flatnonzero(~has)
    room = round(len(tumour) * 0.6 / 0.4)
    steps = (len(tumour) + min(room, len(empty))) // BATCH
    random = np.random.default_rng(args.seed)
    net.train()
    began = time.perf_counter()
    for epoch in range(args.epochs):
        order = random.permutation(np.concatenate([tumour, random.permutation(empty)[:room]]))
        total = 0.0
        for step in range(steps):
            done = epoch * steps + step
            after = (done - steps) / max(1, steps * (args.epochs - 1))
            factor = (done + 1) / steps if done < steps else 0.01 + 0.99 * (1 + math.cos(math.pi * after)) / 2
            optimiser.param_groups[0]["lr"] = args.rate * factor
            images, masks = [], []
            for row in order[step * BATCH :][:BATCH]:
                name, number = rows[row]
                study, truth = studies[name]
                if args.candidate == "context":
                    repeated = bool(random.random() < 0.5)
                    last = len(study) - 1
                    near = [number] * 3 if repeated else [max(0, number - 1), number, min(last, number + 1)]
                    images.append(study[near].flatten(0, 1))
                else:
                    images.append(study[number])
                masks.append(truth[number])
            stack = torch.cat([torch.stack(images), torch.stack(masks)], 1).float() / 255
            images, truth = transformed(stack, generator)
            if args.candidate == "head":
                images = head_normalised(images)
            if args.candidate == "mixup":
                share = torch.from_numpy(random.beta(0.2, 0.2, (len(images), 1, 1, 1))).float()
                share = torch.maximum(share, 1 - share)
                other = torch.randperm(len(images), generator=generator)
                images, truth = (v * share + v[other] * (1 - share) for v in (images, truth))
            truth = truth.to(args.device)
            outputs = net(images.to(args.device, memory_format=torch.channels_last))
            loss = loss_of(outputs[0], truth, args.candidate)
            for level, output in enumerate(outputs[1:], 1):
                coarse = F.avg_pool2d(truth, truth.shape[2] // output.shape[2])
                loss = loss + loss_of(output, coarse, args.candidate) / 2**level
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimiser.step()
            keep = min(0.995, (1 + done) / (10 + done))
            with torch.no_grad():
                for mean, value in zip(average.state_dict().values(), net.state_dict().values()):
                    if mean.is_floating_point():
                        mean.lerp_(value, 1 - keep)
            total += float(loss.detach())
            if not math.isfinite(total):
                raise SystemExit(f"{args.candidate}: the loss of epoch {epoch + 1} is not finite")
        elapsed = time.perf_counter() - began
        print(f"{args.candidate}, fold {args.fold}, epoch {epoch + 1}/{args.epochs}: loss {total / steps:.4f}, {elapsed:.0f} s", flush=True)
    scored = {name: patient(args.data / name) for name in held_out}
    found = {"candidate": args.candidate, "fold": args.fold, "seed": args.seed, "epochs": args.epochs}
    found |= {"learning_rate": args.rate, "parameters": sum(p.numel() for p in net.parameters()), "torch": torch.__version__}
    found |= {"seconds": round(time.perf_counter() - began), "figures": figures(average, scored, args.candidate, args.device, repeated=True)}
    if args.candidate == "context":
        found["figures_with_neighbours"] = figures(average, scored, args.candidate, args.device, repeated=False)
    return found


def table(folder):
    """Mean over folds of each candidate, beside `base` on the same folds."""
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    rows = {}
    for one in found:
        kinds = {one["candidate"]: one["figures"]}
        if "figures_with_neighbours" in one:
            kinds[one["candidate"] + ", neighbours"] = one["figures_with_neighbours"]
        for name, of_fold in kinds.items():
            rows.setdefault(name, {})[one["fold"]] = of_fold
    keys = ["volume_dice_mean", "volume_dice_median", "tumour_slice_dice", "all_slice_dice", "false_positive_rate"]
    print("| candidate | folds | " + " | ".join(keys) + " | volume Dice against base, by patient |")
    print("|---" * (len(keys) + 3) + "|")
    for name, folds in rows.items():
        means = [np.mean([folds[fold][key] for fold in folds]) for key in keys]
        common = [fold for fold in folds if fold in rows.get("base", {})]
        gains = [
            value - rows["base"][fold]["volume_dice"][patient]
            for fold in common
            for patient, value in folds[fold]["volume_dice"].items()
        ]
        gain = f"{np.mean(gains):+.3f} ± {np.std(gains, ddof=1) / math.sqrt(len(gains)):.3f}" if gains else ""
        print(f"| {name} | {', '.join(map(str, folds))} | " + " | ".join(f"{mean:.3f}" for mean in means) + f" | {gain} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=pathlib.Path, help="folder with one folder a patient")
    parser.add_argument("--split", type=pathlib.Path, required=True, help="JSON with the list folds")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder for the figures")
    parser.add_argument("--candidate", choices=CANDIDATES, default="base")
    parser.add_argument("--fold", type=int, default=0, help="the fold that is scored; the others are learned from")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--rate", type=float, default=1e-3, help="highest learning rate")
    parser.add_argument("--seed", type=int, default=155)
    parser.add_argument("--device", default="cpu", help="of PyTorch: cpu or cuda; the transforms stay on the CPU")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--table", action="store_true", help="print what the runs in OUT have found, and train nothing")
    args = parser.parse_args()
    if args.table:
        return table(args.out)
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    found = train(args, json.loads(args.split.read_text()))
    (args.out / f"{args.candidate}-{args.fold}.json").write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps({key: value for key, value in found["figures"].items() if key != "volume_dice"}))


if __name__ == "__main__":
    main()
