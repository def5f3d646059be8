"""Small networks with random weights, and what ONNX Runtime makes of a phantom and of noise.

Run: python make_inference_goldens.py   (needs numpy, onnx, onnxruntime; writes beside itself)

    <model>.onnx            opset 17, IR 8, with its contract in the metadata
    <image>.u8              48x32 pixels (columns x rows), three interleaved channels
    <model>_<image>.f32     ONNX Runtime's logits for that image, little-endian, row by row
    refused/<name>.onnx     sound ONNX files whose interface is not the project's

The grid is not square, so that swapped axes show.
"""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).parent
WIDTH, HEIGHT = 48, 32


class Graph:
    """Collects nodes and random weights."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.nodes = []
        self.weights = []

    def constant(self, values):
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def normal(self, *shape, scale=1.0):
        return self.constant((self.rng.standard_normal(shape) * scale).astype(np.float32))

    def node(self, op, *inputs, output=None, **attributes):
        output = output or f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [output], name=f"n{len(self.nodes)}", **attributes))
        return output

    def conv(self, x, channels, outputs, kernel=3, stride=1, group=1, output=None, pads=None, dilation=1, bias=True):
        fan_in = channels // group * kernel * kernel
        return self.node(
            "Conv", x,
            self.normal(outputs, channels // group, kernel, kernel, scale=(2 / fan_in) ** 0.5),
            *([self.normal(outputs, scale=0.1)] if bias else []),
            output=output, kernel_shape=[kernel] * 2, strides=[stride] * 2,
            pads=pads or [dilation * (kernel // 2)] * 4, group=group,
            **({} if dilation == 1 else {"dilations": [dilation] * 2}),
        )

    def up(self, x, channels, outputs, kernel):
        extra = {"pads": [1] * 4, "output_padding": [1] * 2} if kernel == 3 else {}
        return self.node(
            "ConvTranspose", x,
            self.normal(channels, outputs, kernel, kernel, scale=(1 / channels) ** 0.5),
            self.normal(outputs, scale=0.1),
            kernel_shape=[kernel] * 2, strides=[2, 2], **extra,
        )

    def batch_norm(self, x, channels):
        return self.node(
            "BatchNormalization", x,
            self.normal(channels), self.normal(channels, scale=0.1), self.normal(channels, scale=0.1),
            self.constant(self.rng.uniform(0.5, 2, channels).astype(np.float32)),
        )

    def instance_norm_prelu(self, x, channels):
        x = self.node(
            "InstanceNormalization", x,
            self.constant(np.ones(channels, np.float32)), self.constant(np.zeros(channels, np.float32)),
        )
        return self.node("PRelu", x, self.constant(np.full((1, 1, 1), 0.25, np.float32)))


def classic(seed):
    """Double blocks with batch norm, max-pooling, 2x2 transposed convolution, concatenation."""
    g = Graph(seed)
    skip = g.node("Relu", g.batch_norm(g.conv("image", 3, 8), 8))
    x = g.node("MaxPool", skip, kernel_shape=[2, 2], strides=[2, 2])
    x = g.node("Relu", g.batch_norm(g.conv(x, 8, 16), 16))
    x = g.node("Concat", skip, g.up(x, 16, 8, 2), axis=1)
    x = g.node("Relu", g.conv(x, 16, 8))
    g.conv(x, 8, 1, kernel=1, output="logits")
    return g


def residual(seed):
    """Strided residual units with instance norm and PReLU, 3x3 transposed convolution."""
    g = Graph(seed)
    x = "image"
    skips = []
    for channels, outputs in [(3, 8), (8, 16), (16, 16)]:
        shortcut = g.conv(x, channels, outputs, stride=2)
        y = g.instance_norm_prelu(g.conv(x, channels, outputs, stride=2), outputs)
        y = g.instance_norm_prelu(g.conv(y, outputs, outputs), outputs)
        x = g.node("Add", y, shortcut)
        skips.append(x)
    x = g.instance_norm_prelu(g.up(skips[2], 16, 16, 3), 16)
    x = g.instance_norm_prelu(g.up(g.node("Concat", x, skips[1], axis=1), 32, 8, 3), 8)
    x = g.up(g.node("Concat", x, skips[0], axis=1), 16, 1, 3)
    g.node("Add", g.conv(x, 1, 1), x, output="logits")
    return g


def lean(seed):
    """Strided stem, depthwise convolution, gate, bilinear Resize."""
    g = Graph(seed)
    x = g.node("LeakyRelu", g.conv("image", 3, 16, kernel=5, stride=2), alpha=0.1)
    y = g.conv(g.node("HardSwish", g.conv(x, 16, 16, group=16)), 16, 16, kernel=1)
    gate = g.node("Sigmoid", g.conv(g.node("GlobalAveragePool", y), 16, 16, kernel=1))
    x = g.node("Clip", g.node("Add", x, g.node("Mul", y, gate)),
               g.constant(np.float32(-6)), g.constant(np.float32(6)))
    x = g.conv(x, 16, 1, kernel=1)
    g.node("Resize", x, "", g.constant(np.array([1, 1, 2, 2], np.float32)), output="logits",
           mode="linear", coordinate_transformation_mode="half_pixel")
    return g


def separable(seed):
    """Convolutions of every channel by itself: kernels, strides, odd sizes, and what is nearly one of them; mirror
    images inside the network, which stay there."""
    g = Graph(seed)

    def each(x, **options):
        return g.conv(x, 8, 8, group=8, **options)

    def back(x, stride):
        return g.node("ConvTranspose", x, g.normal(8, 8, stride, stride, scale=0.3), kernel_shape=[stride] * 2,
                      strides=[stride] * 2)

    x = g.node("Relu", g.conv("image", 3, 8))
    taller = g.node("Pad", x, g.constant(np.array([0, 0, 1, 0, 0, 0, 0, 0])))  # 33 rows
    thirds = back(each(each(taller, kernel=5), kernel=5, stride=3), 3)
    ends = [g.constant(np.array([value])) for value in (0, HEIGHT, 2)]

    def mirrored(x, axis):
        return g.node("Slice", x, *[g.constant(np.array([value])) for value in (-1, -(2**63), axis, -1)])

    branches = [
        mirrored(each(mirrored(x, 3), kernel=3), 3),
        mirrored(x, 2),
        each(each(x, kernel=3), kernel=7),
        each(x, kernel=1),
        back(each(each(x, kernel=3, stride=2), kernel=5), 2),
        back(each(x, kernel=5, stride=2), 2),
        g.node("Slice", thirds, *ends),
        each(x, kernel=3, bias=False),
        # None of these is one of a square kernel of an odd side with zeros of half of it around the image, and a stride
        # no longer than that.
        back(each(x, kernel=3, stride=4), 4),
        back(each(x, kernel=3, stride=2, pads=[0, 0, 1, 1]), 2),
        each(x, kernel=2, pads=[1, 1, 0, 0]),
        each(x, kernel=3, dilation=2),
        g.conv(g.conv(x, 8, 16, group=8), 16, 8, group=4),
    ]
    x = branches[0]
    for branch in branches[1:]:
        x = g.node("Add", x, branch)
    g.conv(g.node("Relu", x), 8, 1, kernel=1, output="logits")
    return g


def mirrored(seed):
    """Two members, each the mean of what it makes of an image and, mirrored, of its mirror image."""
    g = Graph(seed)
    ends = [g.constant(np.array([value])) for value in (-1, -(2**63), 3, -1)]

    def mirror(x):
        return g.node("Slice", x, *ends)

    def member():
        weights = [g.normal(8, 3, 3, 3, scale=0.3), g.normal(8, scale=0.1),
                   g.normal(1, 8, 3, 3, scale=0.3), g.normal(1, scale=0.1)]
        scales = g.constant(np.array([1, 1, 2, 2], np.float32))

        def network(x):
            # The padding is on one side only: what it makes of a mirror image is not the mirror image of what it makes.
            x = g.node("Conv", x, *weights[:2], kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1])
            x = g.node("LeakyRelu", x, alpha=0.1)
            x = g.node("Resize", x, "", scales, mode="nearest", coordinate_transformation_mode="asymmetric",
                       nearest_mode="floor")
            return g.node("Conv", x, *weights[2:], kernel_shape=[3, 3], pads=[1] * 4)

        both = g.node("Add", network("image"), mirror(network(mirror("image"))))
        return g.node("Mul", both, g.constant(np.array([0.5], np.float32)))

    g.node("Mul", g.node("Add", member(), member()), g.constant(np.array([0.4], np.float32)), output="logits")
    return g


def contract(name, unit, fit, normalization, postprocessing):
    return {
        "contract_version": 1,
        "model_version": f"{name}-golden",
        "network": f"{name}, random weights",
        "label": "FLAIR abnormality",
        "unit": unit,
        "input": {
            "channels": ["pre-contrast", "FLAIR", "post-contrast"],
            "width": WIDTH, "height": HEIGHT, "fit": fit,
        },
        "preprocessing": {"non_8_bit_percentiles": [0.0, 99.9], "normalization": normalization},
        "postprocessing": postprocessing,
        "provenance": {
            "data": "none", "data_digest": "0" * 64, "split": "none", "split_digest": "f" * 64,
            "seed": 20260117, "commit": "none",
        },
        "scores": [],
        "licence": "MIT OR Apache-2.0",
        "notice": "research use only; not a medical device",
    }


def image_type(channels=3, dtype=TensorProto.FLOAT, height=HEIGHT):
    return helper.make_tensor_value_info("image", dtype, [1, channels, height, WIDTH])


def build(nodes, weights, inputs, metadata, outputs=None):
    outputs = outputs or [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 1, HEIGHT, WIDTH])]
    model = helper.make_model(
        helper.make_graph(nodes, "golden", inputs, outputs, weights),
        opset_imports=[helper.make_opsetid("", 17)], ir_version=8,
    )
    helper.set_model_props(model, {"glioseg.contract": json.dumps(metadata, separators=(",", ":"))})
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def phantom():
    """A bright ellipse in a dark field, with a FLAIR-bright spot off its centre."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    head = ((x - 24) / 18) ** 2 + ((y - 16) / 13) ** 2 < 1
    spot = ((x - 31) / 5) ** 2 + ((y - 11) / 4) ** 2 < 1
    rng = np.random.default_rng(5)
    image = np.zeros((HEIGHT, WIDTH, 3))
    image[head] = [90, 100, 95]
    image[spot] = [80, 210, 110]
    image[head] += rng.normal(0, 6, (head.sum(), 3))
    return image.clip(0, 255).astype(np.uint8)


def noise():
    return np.random.default_rng(6).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def normalise(image, rule):
    values = image.astype(np.float64)
    if rule == "unit":
        return values / 255
    low, high = rule["percentile_z_score"]["low"], rule["percentile_z_score"]["high"]
    for c in range(3):
        clipped = np.clip(values[..., c], *np.percentile(values[..., c], [low, high]))
        values[..., c] = (clipped - clipped.mean()) / clipped.std()
    return values


def main():
    z_score = {"percentile_z_score": {"low": 10.0, "high": 99.0}}
    keep_all = {"threshold": 0.5, "minimum_component_pixels": 0, "keep_largest": False}
    models = {
        "classic": (classic(1), contract("classic", "slice", "resample", "unit", keep_all)),
        "residual": (residual(2), contract("residual", "slice", "resample", z_score, keep_all)),
        "lean": (lean(3), contract("lean", "slice", "resample", "unit", keep_all)),
        # `crop_pad` is what older files call `shrink_pad`, and is to be read.
        "separable": (separable(5), contract("separable", "slice", "crop_pad", "unit", keep_all)),
        "mirrored": (mirrored(6), contract("mirrored", "slice", "crop_pad", "unit", keep_all)),
        "volume": (lean(4), contract("volume", "volume", "crop_pad", z_score,
                                     {"threshold": 0.5, "minimum_component_pixels": 4, "keep_largest": True})),
    }
    images = {"phantom": phantom(), "noise": noise()}
    for name, image in images.items():
        (HERE / f"{name}.u8").write_bytes(image.tobytes())
    for name, (graph, metadata) in models.items():
        file = build(graph.nodes, graph.weights, [image_type()], metadata)
        (HERE / f"{name}.onnx").write_bytes(file)
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        for image_name, image in images.items():
            values = normalise(image, metadata["preprocessing"]["normalization"])
            tensor = values.transpose(2, 0, 1)[None].astype(np.float32)
            logits = session.run(["logits"], {"image": tensor})[0]
            assert logits.shape == (1, 1, HEIGHT, WIDTH)
            (HERE / f"{name}_{image_name}.f32").write_bytes(logits.astype("<f4").tobytes())

    refused = HERE / "refused"
    refused.mkdir(exist_ok=True)
    metadata = models["classic"][1]

    def refuse(name, inputs, channels=3, nodes=None, weights=None, outputs=None):
        weight = numpy_helper.from_array(np.zeros((1, channels, 1, 1), np.float32), "w")
        nodes = nodes or [helper.make_node("Conv", ["image", "w"], ["logits"])]
        file = build(nodes, [weight] if weights is None else weights, inputs, metadata, outputs)
        (refused / f"{name}.onnx").write_bytes(file)

    refuse("four_channels", [image_type(4)], 4)
    refuse("dynamic_height", [image_type(height="rows")])
    second = helper.make_tensor_value_info("other", TensorProto.FLOAT, [1, 1, HEIGHT, WIDTH])
    refuse("two_inputs", [image_type(), second],
           nodes=[helper.make_node("Conv", ["image", "w"], ["t"]),
                  helper.make_node("Add", ["t", "other"], ["logits"])])
    double = numpy_helper.from_array(np.zeros((1, 3, 1, 1), np.float64), "w")
    refuse("float64", [image_type(dtype=TensorProto.DOUBLE)], weights=[double],
           outputs=[helper.make_tensor_value_info("logits", TensorProto.DOUBLE, [1, 1, HEIGHT, WIDTH])])
    refuse("half_size_output", [image_type()],
           nodes=[helper.make_node("Conv", ["image", "w"], ["logits"], strides=[2, 2])],
           outputs=[helper.make_tensor_value_info(
               "logits", TensorProto.FLOAT, [1, 1, HEIGHT // 2, WIDTH // 2])])
    refuse("sizes_from_data", [image_type()],
           nodes=[helper.make_node("Conv", ["image", "w"], ["t"]),
                  helper.make_node("Shape", ["t"], ["s"]),
                  helper.make_node("Expand", ["t", "s"], ["logits"])])


main()
