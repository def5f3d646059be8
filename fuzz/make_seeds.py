#!/usr/bin/env python3
"""Write the seeds of the `contract` and `split` fuzzers.

    python3 -m pip install onnx==1.23.2
    python3 fuzz/make_seeds.py

The seeds of `tiff` and `png` are written by shared/tests/goldens/imaging/make_imaging_goldens.py. The contract seeds
are the contract of a golden model, alone and inside an ONNX file without weights, and variants with one field changed.
"""

import copy
import json
import pathlib
import shutil

import onnx

HERE = pathlib.Path(__file__).resolve().parent
MODELS = HERE.parent / "shared" / "tests" / "goldens" / "inference"
KEY = "glioseg.contract"


def contracts():
    """The contract of each golden model, then changed ones."""
    found = {}
    for name in ["lean", "volume"]:
        model = onnx.load(MODELS / f"{name}.onnx")
        found[name] = json.loads(next(p.value for p in model.metadata_props if p.key == KEY))
    lean = found["lean"]
    for name, change in {
        "unknown_version": {"contract_version": 2},
        "unknown_field": {"colour": "red"},
        "path_as_version": {"model_version": "../secret"},
        "no_scores": {"scores": []},
    }.items():
        found[name] = lean | change
    found["wide"] = copy.deepcopy(lean)
    found["wide"]["input"]["width"] = 1 << 31
    found["never"] = copy.deepcopy(lean)
    found["never"]["postprocessing"]["threshold"] = 1.0
    found["missing"] = {key: value for key, value in lean.items() if key != "preprocessing"}
    return found


def onnx_of(*values):
    """An ONNX file of an empty graph with these values of the contract's key."""
    model = onnx.helper.make_model(onnx.helper.make_graph([], "g", [], []), ir_version=8)
    for value in values:
        model.metadata_props.add(key=KEY, value=value)
    return model.SerializeToString(deterministic=True)


def splits():
    names = [f"TCGA_{i:02}" for i in range(6)]
    sound = {"data_set": "d", "note": "n", "train": names[:3], "validation": names[3:5], "test": names[5:]}
    return {
        "sound": sound,
        "folds": sound | {"folds": [names[:2], names[2:5]]},
        "bare": {"train": names[:1], "validation": names[1:2], "test": []},
        "twice": sound | {"test": names[:1]},
        "twice_in_folds": sound | {"folds": [names[:3], names[2:5]]},
        "outside_folds": sound | {"folds": [names[:3], names[3:]]},
        "in_no_fold": sound | {"folds": [names[:3]]},
        "no_train": sound | {"train": []},
        "no_validation": {"train": names, "test": []},
        "unknown_field": sound | {"tests": []},
    }


def main():
    folders = {name: HERE / "seeds" / name for name in ["contract", "split"]}
    for folder in folders.values():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    texts = {name: json.dumps(contract) for name, contract in contracts().items()}
    for name, text in texts.items():
        (folders["contract"] / f"{name}.json").write_text(text)
        (folders["contract"] / f"{name}.onnx").write_bytes(onnx_of(text))
    (folders["contract"] / "absent.onnx").write_bytes(onnx_of())
    (folders["contract"] / "ambiguous.onnx").write_bytes(onnx_of(texts["lean"], texts["volume"]))
    (folders["contract"] / "truncated.onnx").write_bytes(onnx_of(texts["lean"])[:-20])
    for name, split in splits().items():
        (folders["split"] / f"{name}.json").write_text(json.dumps(split))


if __name__ == "__main__":
    main()
