"""Runs a model of one input and one output by ONNX Runtime on raw little-endian f32 values.

Run: python ort_logits.py MODEL INPUT OUTPUT   (needs numpy, onnxruntime)

INPUT holds any number of images of the model's input shape one after the other; OUTPUT gets as many
outputs.
"""

import sys

import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
image = session.get_inputs()[0]
inputs = np.fromfile(sys.argv[2], "<f4").reshape(-1, 1, *image.shape[1:])
outputs = [session.run(None, {image.name: values})[0] for values in inputs]
np.concatenate(outputs).astype("<f4").tofile(sys.argv[3])
