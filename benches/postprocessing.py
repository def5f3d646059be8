#!/usr/bin/env python3
"""What another way from probabilities to masks would be worth, by the cross-validation inside models/best.onnx.

    python3 benches/postprocessing.py kaggle_3m --split split.json

takes the five networks of `best` apart, lets each see the patients of its own fold, which it was not trained on, and
scores masks that come from these probabilities in one way or another. ONNX Runtime, NumPy and SciPy do everything, so
that the first line of the table is also an independent look at the figures that `glioseg-train cross-validate` gave; its
threshold and smallest component are those of the shipped models, where cross-validation chose them anew for each fold.
Test patients are never opened. Writes the figures to benches/results.

Needs numpy, onnx, onnxruntime, scipy and tifffile.
"""

import argparse
import datetime
import json
import pathlib

import numpy as np
import onnx
import onnxruntime
import scipy
import tifffile
from scipy import ndimage

HERE = pathlib.Path(__file__).parent
BEST = HERE.parent / "training/models/best.onnx"
CORNERS = np.ones((3, 3))


def members(model):
    """A session for each member, and the factor of its logits: what a member says of one view."""
    tensors = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    heads = {}
    for node in model.graph.node:
        if node.op_type == "ConvTranspose":
            # The first head of a member sees the slice, its second the mirror image.
            heads.setdefault(node.input[1].split(".")[0], node.output[0])
    last = model.graph.node[-1]
    factor = float(tensors[last.input[1]].reshape(()))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    for output in heads.values():
        part = onnx.ModelProto()
        part.CopyFrom(model)
        needed, nodes = {output}, []
        for node in reversed(model.graph.node):
            if needed.intersection(node.output):
                nodes.insert(0, node)
                needed.update(node.input)
        del part.graph.node[:], part.graph.initializer[:]
        part.graph.node.extend(nodes)
        part.graph.initializer.extend(tensor for tensor in model.graph.initializer if tensor.name in needed)
        part.graph.output[0].name = output
        yield onnxruntime.InferenceSession(part.SerializeToString(), options, ["CPUExecutionProvider"]), factor


def study(session, factor, folder):
    """Calibrated logits and truth of every slice of a patient, from the mean of both views."""
    logits, truth = [], []
    masks = sorted(folder.glob("*_mask.tif"), key=lambda path: int(path.stem.split("_")[-2]))
    if not masks:
        raise SystemExit(f"{folder}: has no *_mask.tif")
    for path in masks:
        image = tifffile.imread(path.with_name(path.name.replace("_mask", "")))
        image = (image / np.float32(255)).transpose(2, 0, 1)[None].astype(np.float32)
        views = [np.ascontiguousarray(image[..., ::step]) for step in (1, -1)]
        own, mirrored = (session.run(None, {"image": view})[0][0, 0] for view in views)
        logits.append((own + mirrored[:, ::-1]) / 2 * factor)
        truth.append(tifffile.imread(path) > 0)
    return np.stack(logits), np.stack(truth)


def logit(probability):
    return np.log(probability / (1 - probability))


def kept(mask, structure, least, seeds):
    """The components of at least so many pixels that hold a seed."""
    labels, count = ndimage.label(mask, structure)
    keep = np.bincount(labels.ravel(), minlength=count + 1) >= least
    if seeds is not None:
        keep &= np.bincount(labels[seeds & mask], minlength=count + 1) > 0
    keep[0] = False
    return keep[labels]


def by_slice(threshold, least, seed=None, fill=False, close=False):
    """Masks slice by slice: threshold, closing by a cross, holes filled, components of `least` pixels with a pixel of at
    least the probability `seed`."""

    def one(logits):
        mask = logits >= logit(threshold)
        if close:
            mask = ndimage.binary_closing(np.pad(mask, 2))[2:-2, 2:-2]
        mask = ndimage.binary_fill_holes(mask) if fill else mask
        return kept(mask, CORNERS, least, None if seed is None else logits >= logit(seed))

    return lambda logits: np.stack([one(slice_) for slice_ in logits])


def by_volume(threshold, least, seed, least_in_slice):
    """Masks of a whole study: holes filled, components in three dimensions, then the smallest component in a slice."""

    def masks(logits):
        mask = np.stack([ndimage.binary_fill_holes(slice_ >= logit(threshold)) for slice_ in logits])
        mask = kept(mask, np.ones((3, 3, 3)), least, logits >= logit(seed))
        return np.stack([kept(slice_, CORNERS, least_in_slice, None) for slice_ in mask])

    return masks


def smoothed(deviation):
    shipped = by_slice(0.5, 64)
    return lambda logits: shipped(np.stack([ndimage.gaussian_filter(slice_, deviation) for slice_ in logits]))


WAYS = {
    "threshold 0.5, smallest component 64 (shipped)": by_slice(0.5, 64),
    "holes filled": by_slice(0.5, 64, fill=True),
    "components with a pixel of 0.95": by_slice(0.5, 64, seed=0.95),
    "both": by_slice(0.5, 64, seed=0.95, fill=True),
    "both, threshold 0.45": by_slice(0.45, 64, seed=0.95, fill=True),
    "both, threshold 0.4": by_slice(0.4, 64, seed=0.95, fill=True),
    "both, smallest component 32": by_slice(0.5, 32, seed=0.95, fill=True),
    "both, closed by a cross": by_slice(0.5, 64, seed=0.95, fill=True, close=True),
    "logits smoothed, 1 pixel": smoothed(1),
    "components of the volume: 200 voxels, one of 0.99": by_volume(0.5, 200, 0.99, 1),
    "the same, threshold 0.4, 32 pixels in a slice": by_volume(0.4, 200, 0.99, 32),
}


def figures(way, studies):
    """The four figures, and the volume Dice of every patient."""
    volumes, tumour, everything, false = {}, [], [], []
    for name, (logits, truth) in studies.items():
        masks = way(logits)
        overlap, areas = (masks & truth).sum((1, 2)), masks.sum((1, 2)) + truth.sum((1, 2))
        has = truth.any((1, 2))
        dice = np.where(areas > 0, 2 * overlap / np.maximum(areas, 1), 1.0)
        volumes[name] = float(2 * overlap.sum() / max(1, areas.sum()))
        tumour += dice[has].tolist()
        everything += dice.tolist()
        false += (areas[~has] > 0).tolist()
    values = np.array(list(volumes.values()))
    means = [values.mean(), np.median(values), np.mean(tumour), np.mean(everything), np.mean(false)]
    return [float(mean) for mean in means], values


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=pathlib.Path, help="folder with one folder a patient")
    parser.add_argument("--split", type=pathlib.Path, required=True, help="the split that `best` was trained by")
    args = parser.parse_args()
    folds = json.loads(args.split.read_text())["folds"]
    model = onnx.load(BEST)
    contract = json.loads(next(p.value for p in model.metadata_props if p.key == "glioseg.contract"))
    studies = {}
    for (session, factor), patients in zip(members(model), folds, strict=True):
        for name in patients:
            studies[name] = study(session, factor, args.data / name)
    names = ["volume_dice_mean", "volume_dice_median", "tumour_slice_dice", "all_slice_dice", "false_positive_rate"]
    print("| way | " + " | ".join(names) + " | volume Dice against shipped, by patient |")
    print("|---" * (len(names) + 2) + "|")
    rows, shipped = {}, None
    for title, way in WAYS.items():
        means, volumes = figures(way, studies)
        shipped = volumes if shipped is None else shipped
        gain = volumes - shipped
        error = gain.std(ddof=1) / len(gain) ** 0.5
        rows[title] = dict(zip(names, means)) | {"gain": float(gain.mean()), "standard_error": float(error)}
        print(f"| {title} | " + " | ".join(f"{mean:.4f}" for mean in means) + f" | {gain.mean():+.4f} ± {error:.4f} |", flush=True)
    found = {"model": contract["model_version"], "patients": len(studies), "rows": rows}
    found["versions"] = {module.__name__: module.__version__ for module in (np, onnx, onnxruntime, scipy)}
    found["command"] = "python3 benches/postprocessing.py kaggle_3m --split split.json"
    file = HERE / "results" / f"{datetime.date.today()}-postprocessing.json"
    file.write_text(json.dumps(found, indent=2) + "\n")
    print(file)


if __name__ == "__main__":
    main()
