#!/usr/bin/env python3
"""Checks exported files with the ONNX project's own tools: a test runs it, or by hand

    pip install onnx onnxruntime numpy
    python3 check_onnx.py FOLDER

For every NAME.onnx of FOLDER: onnx.checker with shape inference, the file's versions, interface and metadata, and ONNX
Runtime on NAME.image.f32 against NAME.logits.f32 (raw little-endian float32, one or more inputs) to 1e-4. Prints one
line a file; exits with an error at the first that fails.
"""
import json
import pathlib
import sys

import numpy as np
import onnx
import onnxruntime

TOLERANCE = 1e-4


def shape(value):
    assert value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT, value
    return [dim.dim_value for dim in value.type.tensor_type.shape.dim]


def check(path):
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version == 8, model.ir_version
    assert [(i.domain, i.version) for i in model.opset_import] == [("", 17)], model.opset_import
    contract = json.loads({p.key: p.value for p in model.metadata_props}["glioseg.contract"])
    (image,), (logits,) = model.graph.input, model.graph.output
    _, _, height, width = shape(image)
    assert (image.name, shape(image)) == ("image", [1, 3, height, width]), image
    assert (logits.name, shape(logits)) == ("logits", [1, 1, height, width]), logits
    assert (contract["input"]["height"], contract["input"]["width"]) == (height, width), contract

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    images = np.fromfile(path.with_suffix(".image.f32"), "<f4").reshape(-1, 1, 3, height, width)
    expected = np.fromfile(path.with_suffix(".logits.f32"), "<f4").reshape(-1, 1, 1, height, width)
    assert len(images) == len(expected) > 0
    worst = max(
        float(np.abs(session.run(["logits"], {"image": x})[0] - y).max())
        for x, y in zip(images, expected)
    )
    assert worst <= TOLERANCE, f"{path.name}: ONNX Runtime deviates by {worst}"
    print(f"{path.name}: {len(images)} inputs, largest deviation {worst:.1e}")


paths = sorted(pathlib.Path(sys.argv[1]).glob("*.onnx"))
assert paths, f"no ONNX files in {sys.argv[1]}"
for path in paths:
    check(path)
