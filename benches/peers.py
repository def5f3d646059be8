#!/usr/bin/env python3
"""The Python side of benches/compare.py: runs one piece of work of a peer and prints how long it takes.

    python3 benches/peers.py NAME FOLDER --threads 1 --seconds 2 [--model FILE] [--device cuda --filters 32]

FOLDER holds what `cargo run --release --example phantom -- FOLDER 0` writes. The last line printed is a JSON object:
`samples_ns`, the nanoseconds of one run of the work in each of ten samples, and `versions`.

Each peer does what its namesake in `shared/benches` and `training/benches` does, the way that is fastest in its library.
"""

import argparse
import io
import json
import pathlib
import platform
import sys
import time

import numpy as np

BATCH, CROP, SIDE = 16, 224, 256
BRIGHT = 96
SAMPLES = 10


def files(folder, masks):
    """Bytes of the phantom's slices or masks, in order."""
    study = folder / "phantom_0"
    end = "_mask" if masks else ""
    return [(study / f"phantom_0_{n}{end}.tif").read_bytes() for n in range(1, 25)]


def arrays(folder, masks):
    from PIL import Image

    return [np.asarray(Image.open(io.BytesIO(f))) for f in files(folder, masks)]


def decode_pillow(folder, masks):
    from PIL import Image

    inputs = files(folder, masks)

    def work():
        for file in inputs:
            pixels = np.asarray(Image.open(io.BytesIO(file)))
            if masks:
                pixels = pixels != 0

    return work


def decode_tifffile(folder, masks):
    import tifffile

    inputs = files(folder, masks)

    def work():
        for file in inputs:
            pixels = tifffile.imread(io.BytesIO(file))
            if masks:
                pixels = pixels != 0

    return work


def preprocess_unit(args):
    slices = arrays(args.folder, masks=False)

    def work():
        for pixels in slices:
            planes = np.ascontiguousarray(pixels.transpose(2, 0, 1))
            np.divide(planes, np.float32(255), dtype=np.float32)

    return work


def preprocess_percentile_z_score(args):
    slices = arrays(args.folder, masks=False)

    def work():
        for pixels in slices:
            planes = np.ascontiguousarray(pixels.transpose(2, 0, 1)).astype(np.float32)
            low, high = np.percentile(planes, [10, 99], axis=(1, 2), keepdims=True)
            clipped = np.clip(planes, low.astype(np.float32), high.astype(np.float32))
            mean = clipped.mean(axis=(1, 2), keepdims=True)
            (clipped - mean) / np.maximum(clipped.std(axis=(1, 2), keepdims=True), np.float32(1e-6))

    return work


def components(args, volume):
    from scipy import ndimage

    masks = [pixels[..., 1] >= BRIGHT for pixels in arrays(args.folder, masks=False)]
    if volume:
        stack = np.stack(masks)
        return lambda: ndimage.label(stack, structure=np.ones((3, 3, 3)))

    def work():
        for mask in masks:
            ndimage.label(mask, structure=np.ones((3, 3)))

    return work


def dice(args):
    masks = [pixels != 0 for pixels in arrays(args.folder, masks=True)]
    truths = np.stack([masks[i % len(masks)] for i in range(4000)])
    predictions = np.roll(truths.reshape(4000, -1), 3, axis=1).reshape(truths.shape)

    def work():
        total = 0.0
        # A slice at a time: arrays of all slices at once would fall out of the cache between the operations.
        for prediction, truth in zip(predictions, truths):
            area = np.count_nonzero(prediction) + np.count_nonzero(truth)
            total += 2 * np.count_nonzero(prediction & truth) / area if area else 1.0
        return total

    return work


def network(args):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = args.threads
    session = onnxruntime.InferenceSession(str(args.model), options, providers=["CPUExecutionProvider"])
    _, _, height, width = session.get_inputs()[0].shape
    pixels = arrays(args.folder, masks=False)[12]
    planes = np.zeros((1, 3, height, width), np.float32)
    seen = pixels[:height, :width].transpose(2, 0, 1)
    planes[0, :, : seen.shape[1], : seen.shape[2]] = seen / np.float32(255)
    return lambda: session.run(["logits"], {"image": planes})


class Trainer:
    """The MONAI UNet in PyTorch: one optimiser step on a batch, or a part of it."""

    def __init__(self, args):
        import torch
        from monai.losses import DiceFocalLoss
        from monai.networks.nets import UNet

        torch.manual_seed(0)
        channels = [args.filters << level for level in range(5)]
        self.net = UNet(2, 3, 1, channels, [2, 2, 2, 2], num_res_units=2).train().to(args.device)
        self.criterion = DiceFocalLoss(sigmoid=True)
        self.optimiser = torch.optim.AdamW(self.net.parameters(), lr=1e-3, weight_decay=1e-5)

    def loss(self, images, masks):
        return self.criterion(self.net(images), masks)

    def backward(self, images, masks):
        self.optimiser.zero_grad()
        loss = self.loss(images, masks)
        loss.backward()
        return loss

    def step(self, images, masks):
        import torch

        loss = self.backward(images, masks)
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 0.5)
        self.optimiser.step()
        return loss.item()


def on_random_batch(part):
    """Work on one batch of noise; what a GPU was given is done before the clock is read."""

    def make(args):
        import torch

        trainer = Trainer(args)
        images = torch.rand(BATCH, 3, CROP, CROP, device=args.device)
        masks = (torch.rand(BATCH, 1, CROP, CROP, device=args.device) < 0.03).float()

        def work():
            getattr(trainer, part)(images, masks)
            wait(args)

        return work

    return make


def wait(args):
    import torch

    if args.device != "cpu":
        torch.cuda.synchronize()


def original_transforms(args):
    transform = batch_maker(args)

    def work():
        transform()
        wait(args)

    return work


def batch_maker(args):
    """The original system's transforms of a random batch of the phantom's slices."""
    import torch

    slices, masks = arrays(args.folder, False), arrays(args.folder, True)
    stack = [np.concatenate([s.transpose(2, 0, 1) / 255, (m != 0)[None]]) for s, m in zip(slices, masks)]
    stack = torch.from_numpy(np.stack(stack).astype(np.float32)).to(args.device)
    return lambda: original(stack[torch.randint(len(stack), (BATCH,), device=args.device)])


def original(batch):
    """The original system's transforms, done for a whole batch of three channels and a mask at once on its device:
    mirror, rotation and crop in one bilinear sampling, then contrast, brightness and noise."""
    import torch

    samples, device = len(batch), batch.device
    axis = torch.arange(CROP, device=device) - (CROP - 1) / 2
    half = (SIDE - 1) / 2

    def each(values):
        return values.view(samples, 1, 1)

    def symmetric(reach):
        chosen = (torch.rand(samples, device=device) < 0.5).float()
        return (torch.rand(samples, device=device) * 2 - 1) * reach * chosen

    angle, mirror = symmetric(0.26), torch.where(torch.rand(samples, device=device) < 0.5, -1.0, 1.0)
    offset = torch.randint(0, SIDE - CROP + 1, (samples, 2), device=device) - (SIDE - CROP) / 2
    sine, cosine = torch.sin(angle) / half, torch.cos(angle) / half
    x, y = axis.view(1, 1, CROP), axis.view(1, CROP, 1)
    from_x = x * each(cosine * mirror) - y * each(sine) + each(offset[:, 0] / half)
    from_y = x * each(sine * mirror) + y * each(cosine) + each(offset[:, 1] / half)
    grid = torch.stack([from_x, from_y], dim=3)
    batch = torch.nn.functional.grid_sample(batch, grid, "bilinear", "border", align_corners=True)
    images, truth = batch[:, :3], (batch[:, 3:] >= 0.5).float()
    factor, shift, deviation = 1 + symmetric(0.1), symmetric(0.1), symmetric(0.1).abs()
    factor, shift, deviation = (v.view(samples, 1, 1, 1) for v in (factor, shift, deviation))
    return images * factor + shift + torch.randn_like(images) * deviation, truth


def epoch_batch(args):
    transform, trainer = batch_maker(args), Trainer(args)
    return lambda: trainer.step(*transform())


PEERS = {
    "decode_slices_pillow": lambda args: decode_pillow(args.folder, masks=False),
    "decode_slices_tifffile": lambda args: decode_tifffile(args.folder, masks=False),
    "decode_masks_pillow": lambda args: decode_pillow(args.folder, masks=True),
    "decode_masks_tifffile": lambda args: decode_tifffile(args.folder, masks=True),
    "preprocess_unit": preprocess_unit,
    "preprocess_percentile_z_score": preprocess_percentile_z_score,
    "components_slices": lambda args: components(args, volume=False),
    "components_volume": lambda args: components(args, volume=True),
    "dice": dice,
    "network": network,
    "training_forward": on_random_batch("loss"),
    "training_forward_backward": on_random_batch("backward"),
    "training_step": on_random_batch("step"),
    "augmentation_original": original_transforms,
    "epoch_batch": epoch_batch,
}


def measure(work, seconds):
    """Nanoseconds of one run of the work, in SAMPLES samples that together take about as long as asked for."""
    began, runs = time.perf_counter(), 0
    while runs == 0 or time.perf_counter() - began < seconds / 4:
        work()
        runs += 1
    each = (time.perf_counter() - began) / runs
    runs = max(1, round(seconds / SAMPLES / each))
    samples = []
    for _ in range(SAMPLES):
        began = time.perf_counter_ns()
        for _ in range(runs):
            work()
        samples.append((time.perf_counter_ns() - began) / runs)
    return samples


def versions():
    """Versions of the libraries that the work has loaded."""
    names = ["PIL", "monai", "numpy", "onnxruntime", "scipy", "tifffile", "torch"]
    found = {name: sys.modules[name].__version__ for name in names if name in sys.modules}
    return {"python": platform.python_version(), **found}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=PEERS)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--model", type=pathlib.Path)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="of PyTorch")
    parser.add_argument("--filters", type=int, default=16, help="of the UNet's first block")
    args = parser.parse_args()
    if args.name.startswith("training_") or args.name in ("augmentation_original", "epoch_batch"):
        import torch

        torch.set_num_threads(args.threads)
    samples = measure(PEERS[args.name](args), args.seconds)
    print(json.dumps({"samples_ns": samples, "versions": versions()}))


if __name__ == "__main__":
    main()
