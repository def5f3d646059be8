#!/usr/bin/env python3
"""Write the seeds of the `contract`, `prepared`, `archive` and `split` fuzzers.

    python3 -m pip install onnx==1.23.2
    python3 fuzz/make_seeds.py

The seeds of `tiff` and `png` are written by shared/tests/goldens/imaging/make_imaging_goldens.py. The contract seeds
are the contract of a golden model, alone and inside an ONNX file without weights, and variants with one field changed.
The prepared slices are written here from nothing but the format's description, so that they also tell whether the
decoder reads what it says it reads.
"""

import copy
import io
import json
import pathlib
import shutil
import struct
import zipfile
import zlib

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


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width, height, texts, before=True, colour=2, rows=None):
    """A PNG of the kind that slices are prepared as, or nearly."""
    samples = 3 if colour == 2 else 1
    rows = rows if rows is not None else [bytes((x * y) % 251 for x in range(width * samples)) for y in range(height)]
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    texts = b"".join(chunk(b"iTXt", text) for text in texts)
    body = texts + pixels if before else pixels + texts
    return b"\x89PNG\r\n\x1a\n" + header + body + chunk(b"IEND", b"")


def itxt(description, keyword=b"glioseg", compressed=False):
    text = json.dumps(description, ensure_ascii=False).encode()
    return keyword + (b"\0\1\0\0\0" + zlib.compress(text) if compressed else b"\0\0\0\0\0" + text)


def prepared():
    sound = {
        "schema": "glioseg-prepared-1",
        "study": "clinic/7",
        "slice": "head_1",
        "channels": ["pre-contrast", "FLAIR", "post-contrast"],
        "intensity": {"rescaled": False, "low": None, "high": None},
        "spacing_mm": [0.5, 0.5, 3.0],
        "volume": {"file": "7.zip", "index": 3, "of": 24},
        "source": {"file": "head_1.tif", "sha256": "ab" * 32, "page": 1},
        "notice": "research use only; not a medical device",
    }
    ranges = {"rescaled": True, "low": [0.0, -1.5, 0.1], "high": [1.0, 3.4028235e38, 1e-45]}
    return {
        "sound": png(12, 9, [itxt(sound)]),
        "bare": png(1, 1, [itxt(sound | {"spacing_mm": None, "volume": None})]),
        "rescaled": png(5, 4, [itxt(sound | {"intensity": ranges, "study": "ü %+"})]),
        "refused_none": png(2, 2, []),
        "refused_twice": png(2, 2, [itxt(sound)] * 2),
        "refused_late": png(2, 2, [itxt(sound)], before=False),
        "refused_compressed": png(2, 2, [itxt(sound, compressed=True)]),
        "refused_keyword": png(2, 2, [itxt(sound, keyword=b"Comment")]),
        "refused_grey": png(2, 2, [itxt(sound)], colour=0),
        "refused_short": png(2, 2, [itxt(sound)], rows=[b"123456"]),
        "refused_giant": png(1 << 30, 1 << 30, [itxt(sound)], rows=[b""]),
        "refused_path": png(2, 2, [itxt(sound | {"study": "a/../b"})]),
        "refused_both": png(2, 2, [itxt(sound | {"intensity": ranges | {"rescaled": False}})]),
        "refused_field": png(2, 2, [itxt(sound | {"colour": "red"})]),
    }


def tiff(width, height, samples, value):
    """A TIFF file of one strip without compression, its values given by their number."""
    tags = [(256, width), (257, height), (258, 8), (259, 1), (262, 2 if samples == 3 else 1), (273, 0), (277, samples)]
    tags += [(278, height), (279, width * height * samples)]
    start = 8 + 2 + 12 * len(tags) + 4
    fields = b"".join(struct.pack("<HHII", tag, 4, 1, start if tag == 273 else number) for tag, number in tags)
    pixels = bytes(value(i) for i in range(width * height * samples))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + fields + b"\0\0\0\0" + pixels


def zipped(files, method=zipfile.ZIP_DEFLATED, comment=b""):
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", method) as archive:
        archive.comment = comment
        for name, content in files:
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return held.getvalue()


def archives():
    slices = [tiff(40, 33, 3, lambda i, by=by: (i * i // by) % 251) for by in (7, 11)]
    mask = tiff(40, 33, 1, lambda i: 255 if 300 < i < 340 else 0)
    manifest = json.dumps({"slices": 2, "spacing_mm": [0.5, 0.5, 3]})
    study = [("head/1.tif", slices[0]), ("head/1_mask.tif", mask), ("head/2.tif", slices[1]), ("study.json", manifest)]
    sound = zipped(study)
    directory = sound.index(b"PK\1\2")
    liar = bytearray(sound)
    liar[directory + 24 : directory + 28] = struct.pack("<I", 10)
    encrypted = bytearray(sound)
    encrypted[directory + 8] |= 1
    return {
        "sound": sound,
        "stored": zipped(study, zipfile.ZIP_STORED, b"packed by hand"),
        "one": zipped(study[:1]),
        "hidden": zipped([("__MACOSX/._1.tif", b"x"), (".DS_Store", b"x"), *study[:1]]),
        "folder": zipped([("head/", b""), *study[:1]]),
        "refused_empty": zipped([]),
        "refused_liar": bytes(liar),
        "refused_encrypted": bytes(encrypted),
        "refused_traversing": zipped([("../1.tif", slices[0])]),
        "refused_bomb": zipped([("1.tif", bytes(2 << 20))]),
        "refused_many": zipped([(f"{i}.tif", b"") for i in range(9)]),
        "refused_twice": zipped([("a/1.tif", slices[0]), ("b/1.tif", slices[1])]),
        "refused_foreign": zipped([("notes.txt", b"notes"), *study[:1]]),
        "refused_manifest": zipped([("study.json", b"{"), *study[:1]]),
        "refused_truncated": sound[:-30],
    }


def main():
    folders = {name: HERE / "seeds" / name for name in ["contract", "prepared", "archive", "split"]}
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
    for name, file in prepared().items():
        (folders["prepared"] / f"{name}.png").write_bytes(file)
    for name, file in archives().items():
        (folders["archive"] / f"{name}.zip").write_bytes(file)
    for name, split in splits().items():
        (folders["split"] / f"{name}.json").write_text(json.dumps(split))


if __name__ == "__main__":
    main()
