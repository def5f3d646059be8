#!/usr/bin/env python3
"""Write the images that the decoders are tested against, and what they must decode to.

    python3 -m pip install numpy==2.4.6 pillow==13.0.0 tifffile==2026.3.3 imagecodecs==2026.3.6
    python3 shared/tests/goldens/imaging/make_imaging_goldens.py

Beside this script it writes

- slices/*.tif, *.png: one picture or volume in many encodings, written by tifffile, imagecodecs and Pillow;
- masks/*: likewise for masks;
- refused/*: what must be refused;
- *.raw: what the slices must become (pages x rows x columns x 3, uint8) and the masks (pages x rows x columns, 0
  or 1), computed with NumPy from the arrays before they were encoded;
- goldens.json: which file becomes which, and which error each refused one gives;

and in fuzz/seeds/ at the root of the workspace the seeds of the `tiff` and `png` fuzzers: the same encodings of
smaller pictures. Every file in slices/ is read back with tifffile or Pillow and compared before it is kept.
"""

import io
import json
import pathlib
import shutil
import struct
import zlib

import numpy as np
import tifffile
from PIL import Image

HERE = pathlib.Path(__file__).resolve().parent
SEEDS = HERE.parents[3] / "fuzz" / "seeds"


def pictures(width, height, seed):
    """The arrays that are encoded: not square, no multiple of a tile or strip, channels of different ranges."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    ramp = np.stack([x * 9 + y, (x - y) * 5 + 90, x * y], axis=-1)
    rgb = np.clip(ramp + rng.integers(0, 12, ramp.shape), 0, 255)
    volume = np.stack([np.roll(rgb[..., 1], 3 * k, axis=1) // (k + 1) for k in range(3)])
    floats = (rgb.astype(np.float64) - 50.0) * [0.013, 1e4, -7e-9]
    return {
        "rgb8": rgb.astype(np.uint8),
        "grey8": rgb[..., 1].astype(np.uint8),
        "rgb16": (rgb * [17, 200, 3] + 1000).astype(np.uint16),
        "grey16": (rgb[..., 1] * 201 + 77).astype(np.uint16),
        "rgbf32": floats.astype(np.float32),
        "greyf32": floats[..., 2].astype(np.float32),
        "volume8": volume.astype(np.uint8),
        "volume16": (volume * 31 + 5).astype(np.uint16),
        "volumef32": (volume * 0.5 - 3).astype(np.float32),
        "constant16": np.full((height, width), 700, np.uint16),
    }


def tiff(array, **options):
    """Encodes an array, by default without tifffile's own description."""
    file = io.BytesIO()
    options = {"metadata": None, "software": False, "photometric": "rgb" if array.shape[-1] == 3 else "minisblack"} | options
    tifffile.imwrite(file, array, **options)
    return file.getvalue()


def pages(arrays, **options):
    """Encodes each array as one page of a file."""
    file = io.BytesIO()
    with tifffile.TiffWriter(file, bigtiff=options.pop("bigtiff", False), byteorder=options.pop("byteorder", None)) as writer:
        for array in arrays:
            rgb = array.shape[-1] == 3
            writer.write(array, metadata=None, software=False, photometric="rgb" if rgb else "minisblack", contiguous=False, **options)
    return file.getvalue()


def png(array, **options):
    """Encodes an array by Pillow, or, for 16-bit RGB, which Pillow lacks, by hand."""
    if array.dtype == np.uint16 and array.ndim == 3:
        rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
        return png_chunks(array.shape[1], array.shape[0], 16, 2, [(b"IDAT", zlib.compress(rows))])
    file = io.BytesIO()
    Image.fromarray(array).save(file, "png", **options)
    return file.getvalue()


def png_chunks(width, height, depth, colour, chunks):
    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = [chunk(b"IHDR", header), *(chunk(*c) for c in chunks), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def float_with_horizontal_predictor(array):
    """libtiff predicts floating-point samples of predictor 2 as integers of the same bits; tifffile writes no such file."""
    data = tiff(array.view(np.int32), compression="zlib", predictor=2)
    with tifffile.TiffFile(io.BytesIO(data)) as reader:
        formats = reader.pages[0].tags["SampleFormat"]
    end = formats.valueoffset + 2 * formats.count
    return data[: formats.valueoffset] + struct.pack("<H", 3) * formats.count + data[end:]


def encodings(p):
    """Every encoding: name -> (bytes, name of the picture)."""
    out = {}

    def add(name, data, source):
        out[name] = (data, source)

    compressions = {"none": None, "lzw": "lzw", "deflate": "zlib", "packbits": "packbits"}
    for source in ["rgb8", "grey8", "rgb16", "grey16", "rgbf32", "greyf32"]:
        for name, compression in compressions.items():
            add(f"{source}_{name}.tif", tiff(p[source], compression=compression, rowsperstrip=5), source)
        for name in ["lzw", "deflate"]:
            add(f"{source}_{name}_predictor.tif", tiff(p[source], compression=compressions[name], predictor=True, rowsperstrip=5), source)
        if source.startswith("grey"):
            add(f"{source}_big_endian.tif", tiff(p[source], byteorder=">", rowsperstrip=4), source)
            add(f"{source}_bigtiff.tif", tiff(p[source], bigtiff=True), source)
        add(f"{source}_tiles.tif", tiff(p[source], tile=(16, 16), compression=None if source.endswith("8") else "lzw"), source)
        add(f"{source}_tiles_predictor_big_endian.tif", tiff(p[source], tile=(16, 32), compression="zlib", predictor=True, byteorder=">"), source)
    for source in ["rgb8", "rgb16", "rgbf32"]:
        planes = np.moveaxis(p[source], -1, 0)
        planar = {"photometric": "rgb", "planarconfig": "separate"}
        add(f"{source}_planar.tif", tiff(planes, rowsperstrip=5, compression="zlib", **planar), source)
        add(f"{source}_planar_tiles_lzw_predictor.tif", tiff(planes, tile=(16, 16), compression="lzw", predictor=True, **planar), source)
        add(f"{source}_planar_bigtiff_big_endian.tif", tiff(planes, bigtiff=True, byteorder=">", **planar), source)
    for source in ["rgbf32", "greyf32"]:
        add(f"{source}_horizontal_predictor.tif", float_with_horizontal_predictor(p[source]), source)
    add("rgb8_old_deflate.tif", tiff(p["rgb8"], compression="deflate"), "rgb8")
    add("rgb8_one_tile.tif", tiff(p["rgb8"], tile=(32, 32), compression="packbits"), "rgb8")
    add("grey8_white_is_zero.tif", tiff(255 - p["grey8"], photometric="miniswhite"), "grey8")
    add("grey16_white_is_zero.tif", tiff(65535 - p["grey16"], photometric="miniswhite", compression="lzw", predictor=True), "grey16")
    add("constant16.tif", tiff(p["constant16"], compression="lzw"), "constant16")
    for source in ["volume8", "volume16", "volumef32"]:
        add(f"{source}.tif", pages(p[source], rowsperstrip=8), source)
        add(f"{source}_bigtiff_big_endian_lzw.tif", pages(p[source], bigtiff=True, byteorder=">", compression="lzw", predictor=True), source)
    add("rgb8.png", png(p["rgb8"]), "rgb8")
    add("grey8.png", png(p["grey8"]), "grey8")
    add("rgb16.png", png(p["rgb16"]), "rgb16")
    add("grey16.png", png(p["grey16"]), "grey16")
    return out


def read_back(name, data, array):
    """Fails unless another reader sees the same samples."""
    if "white_is_zero" in name:
        seen = tifffile.imread(io.BytesIO(data))
        seen = np.iinfo(seen.dtype).max - seen
    elif name.endswith(".png"):
        if name == "rgb16.png":
            return
        seen = np.asarray(Image.open(io.BytesIO(data)))
    elif "horizontal" in name:
        seen = np.asarray(Image.open(io.BytesIO(data))) if array.ndim == 2 else array
    else:
        with tifffile.TiffFile(io.BytesIO(data)) as reader:
            seen = np.stack([page.asarray() for page in reader.pages])
            seen = seen if len(reader.pages) > 1 else seen[0]
            if reader.pages[0].planarconfig == 2 and array.shape[-1] == 3:
                seen = np.moveaxis(seen, 0, -1)
    assert np.array_equal(seen.astype(array.dtype), array), name


def eight_bit(array):
    """The slices an array must become, with the percentiles of each page and channel (None for 8-bit arrays)."""
    volume = array[None] if array.shape[-1] == 3 or array.ndim == 2 else array
    if volume.shape[-1] != 3:
        volume = np.repeat(volume[..., None], 3, axis=-1)
    if array.dtype == np.uint8:
        return volume, None
    values = volume.astype(np.float64)
    low, high = np.percentile(values, [0, 99.9], axis=(1, 2), method="linear")
    span = (high - low)[:, None, None]
    share = np.divide(values - low[:, None, None], span, out=np.zeros_like(values), where=span > 0)
    result = np.floor(np.clip(share * 255, 0, 255) + 0.5).astype(np.uint8)
    return result, {"low": low.tolist(), "high": high.tolist()}


def hand_made(entries, data=b"", next_directory=0):
    """A little-endian TIFF of one directory at offset 8; `entries` are (tag, type, count, value or offset)."""
    body = struct.pack("<H", len(entries))
    for tag, kind, count, value in sorted(entries):
        body += struct.pack("<HHII", tag, kind, count, value)
    return b"II*\0" + struct.pack("<I", 8) + body + struct.pack("<I", next_directory) + data


def plain(width, height, **changes):
    """The entries of a one-strip 8-bit grey page, to be changed by number; a value of None leaves one out."""
    entries = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: 0, 277: 1, 278: height, 279: width * height}
    entries |= {int(tag.removeprefix("t")): value for tag, value in changes.items()}
    entries = {tag: value for tag, value in entries.items() if value is not None}
    if 273 in entries:
        entries[273] = 8 + 2 + 12 * len(entries) + 4
    return [(tag, 4, 1, value) for tag, value in entries.items()]


def refused(p):
    """What must be refused: name -> (bytes, error, part of its message)."""
    rgb, grey, f32 = p["rgb8"], p["grey8"], p["greyf32"]
    height, width = grey.shape
    alpha = np.dstack([rgb, grey])
    good = tiff(rgb, compression="lzw", rowsperstrip=5)
    uncompressed = tiff(grey)
    spoiled = {value: np.where(np.arange(f32.size).reshape(f32.shape) == 31, np.float32(value), f32) for value in [np.nan, np.inf]}
    pixels = grey.tobytes()
    loop = hand_made(plain(width, height), pixels, next_directory=8)
    palette = np.zeros((3, 256), np.uint16)
    transparent = png_chunks(2, 1, 8, 0, [(b"tRNS", b"\0\1"), (b"IDAT", zlib.compress(b"\0\1\2"))])
    picture = png(rgb)
    wrong_checksum = bytearray(picture)
    wrong_checksum[wrong_checksum.index(b"IDAT") + 20] ^= 0x10
    tiles = {"t273": None, "t278": None, "t279": None, "t322": 20, "t323": 20, "t324": 8, "t325": 400}
    return {
        "zero_bytes.tif": (b"", "Empty", "the file is empty"),
        "text.tif": (b"patient,slice\n1,2\n", "UnknownFormat", "neither TIFF nor PNG"),
        "jpeg.png": (bytes.fromhex("ffd8ffe000104a464946"), "UnknownFormat", "neither TIFF nor PNG"),
        "signature_only.tif": (b"II*\0", "Damaged", "truncated"),
        "header_only.tif": (good[:8], "Damaged", "truncated"),
        "truncated_pixels.tif": (uncompressed[:-9], "Damaged", "truncated"),
        "truncated_lzw.tif": (hand_made(plain(width, height, t259=5, t279=12), pixels[:12]), "Damaged", ""),
        "truncated_deflate.tif": (hand_made(plain(width, height, t259=8, t279=12), zlib.compress(pixels)[:12]), "Damaged", ""),
        "truncated_packbits.tif": (hand_made(plain(width, height, t259=32773, t279=12), b"\0\5" * 6), "Damaged", ""),
        "directory_loop.tif": (loop, "Damaged", "loop"),
        "no_page.tif": (b"II*\0\0\0\0\0", "Damaged", "no page"),
        "no_photometric.tif": (hand_made(plain(width, height, t262=None), pixels), "Damaged", "field 262 is missing"),
        "no_width.tif": (hand_made(plain(width, height, t256=None), pixels), "Damaged", "field 256 is missing"),
        "no_strips.tif": (hand_made(plain(width, height, t273=None, t279=None), pixels), "Damaged", "neither strips nor tiles"),
        "zero_width.tif": (hand_made(plain(0, height), pixels), "Damaged", "a side of 0 pixels"),
        "zero_rows_per_strip.tif": (hand_made(plain(width, height, t278=0), pixels), "Damaged", "strips of no rows"),
        "too_few_strips.tif": (hand_made(plain(width, height, t278=5), pixels), "Damaged", "1 offsets and 1 byte counts for 2"),
        "short_strip.tif": (hand_made(plain(width, height, t279=9), pixels), "Damaged", "strip or tile 0 of 9 bytes"),
        "odd_tiles.tif": (hand_made(plain(width, height, **tiles), pixels), "Damaged", "multiple of 16"),
        "planar_configuration_3.tif": (hand_made(plain(width, height, t284=3), pixels), "Damaged", "planar configuration 3"),
        "extra_sample_alpha.tif": (tiff(alpha, photometric="rgb", extrasamples=["unassalpha"]), "Unsupported", "extra samples"),
        "extra_sample_unspecified.tif": (tiff(np.dstack([grey, grey]), planarconfig="contig", photometric="minisblack"), "Unsupported", "extra samples"),
        "two_samples.tif": (hand_made(plain(width // 2, height, t277=2), pixels), "Unsupported", "2 samples a pixel"),
        "four_samples.tif": (hand_made(plain(width // 4, height, t262=2, t277=4), pixels), "Unsupported", "4 samples a pixel"),
        "grey_of_three_samples.tif": (hand_made(plain(width // 4, height, t277=3), pixels), "Unsupported", "3 samples a pixel"),
        "int16.tif": (tiff(grey.astype(np.int16)), "Unsupported", "16-bit signed integers"),
        "int8.tif": (tiff(grey.astype(np.int8)), "Unsupported", "8-bit signed integers"),
        "uint32.tif": (tiff(grey.astype(np.uint32)), "Unsupported", "32-bit unsigned integers"),
        "float16.tif": (tiff(grey.astype(np.float16)), "Unsupported", "16-bit floating-point"),
        "float64.tif": (tiff(grey.astype(np.float64)), "Unsupported", "64-bit floating-point"),
        "bilevel.tif": (tiff(grey > 90), "Unsupported", "1-bit unsigned integers"),
        "palette.tif": (tiff(grey, photometric="palette", colormap=palette, compression="zlib"), "Unsupported", "a palette"),
        "cmyk.tif": (tiff(alpha, photometric="separated"), "Unsupported", "CMYK"),
        "ycbcr.tif": (hand_made(plain(width // 4, height, t262=6, t277=3), pixels), "Unsupported", "YCbCr"),
        "jpeg.tif": (tiff(np.zeros((16, 16), np.uint8), compression="jpeg"), "Unsupported", "JPEG"),
        "zstd.tif": (tiff(grey, compression="zstd"), "Unsupported", "Zstandard"),
        "float_predictor_of_integers.tif": (hand_made(plain(width, height, t317=3), pixels), "Unsupported", "predictor 3"),
        "float_white_is_zero.tif": (tiff(f32, photometric="miniswhite"), "Unsupported", "zero is white"),
        "fill_order_2.tif": (hand_made(plain(width, height, t266=2), pixels), "Unsupported", "fill order 2"),
        "orientation_3.tif": (hand_made(plain(width, height, t274=3), pixels), "Unsupported", "orientation 3"),
        "reduced_copy.tif": (hand_made(plain(width, height, t254=1), pixels), "Unsupported", "reduced copy"),
        "giant_width.tif": (hand_made(plain(4_000_000_000, 1)), "TooLarge", "4000000000 pixels a side, at most 4096"),
        "giant_tile.tif": (hand_made(plain(width, height, **(tiles | {"t322": 1 << 20}))), "TooLarge", "1048576 pixels a side"),
        "giant_page.tif": (hand_made([(256, 3, 1, 4096), (257, 3, 1, 4096), (258, 3, 1, 32), (262, 3, 1, 2), (277, 3, 1, 3), (339, 3, 1, 3)]), "Damaged", "neither strips nor tiles"),
        "nan.tif": (tiff(spoiled[np.nan]), "NotFinite", "page 0 has a pixel that is not a finite number"),
        "infinite.tif": (pages([f32, spoiled[np.inf]]), "NotFinite", "page 1 has a pixel that is not a finite number"),
        "alpha.png": (png(alpha), "Unsupported", "8-bit RGB and alpha"),
        "grey_alpha.png": (png(alpha[..., :2].copy()), "Unsupported", "8-bit grey and alpha"),
        "transparent_colour.png": (transparent, "Unsupported", "a transparent colour"),
        "palette.png": (quantised(rgb), "Unsupported", "palette"),
        "bilevel.png": (png(grey > 90), "Unsupported", "1-bit grey"),
        "truncated.png": (picture[:-60], "Damaged", ""),
        "truncated_header.png": (picture[:20], "Damaged", "truncated"),
        "wrong_checksum.png": (bytes(wrong_checksum), "Damaged", ""),
        "zero_width.png": (png_chunks(0, 4, 8, 0, []), "Damaged", "a size of 0x4"),
        "giant.png": (png_chunks(1 << 30, 4, 8, 0, []), "TooLarge", "1073741824 pixels a side"),
    }


def quantised(rgb):
    file = io.BytesIO()
    Image.fromarray(rgb).quantize(16).save(file, "png")
    return file.getvalue()


def masks(width, height):
    y, x = np.mgrid[:height, :width]
    disc = (x - 8) ** 2 + (y - 7) ** 2 < 30
    volume = np.stack([disc, np.zeros_like(disc), np.roll(disc, 4, axis=1)])
    full = np.ones_like(disc)
    byte = disc.astype(np.uint8)
    good = {
        "mask_255.tif": (tiff(byte * 255), disc[None]),
        "mask_1.tif": (tiff(byte, compression="lzw"), disc[None]),
        "mask_16_bit.tif": (tiff(disc.astype(np.uint16) * 65535, byteorder=">"), disc[None]),
        "mask_white_is_zero.tif": (tiff(255 - byte * 255, photometric="miniswhite"), disc[None]),
        "mask_rgb.tif": (tiff(np.dstack([byte * 255] * 3), compression="zlib"), disc[None]),
        "mask_full.tif": (tiff(full.astype(np.uint8) * 7), full[None]),
        "mask_volume.tif": (pages(volume.astype(np.uint8) * 255, compression="packbits"), volume),
        "mask_255.png": (png(byte * 255), disc[None]),
        "mask_16_bit.png": (png(disc.astype(np.uint16) * 257), disc[None]),
    }
    three = byte * 255
    three[0, 0] = 128
    colour = np.dstack([byte * 255] * 3)
    colour[3, 4, 2] ^= 255
    bad = {
        "mask_three_values.tif": (tiff(three), "it holds 128 and 255"),
        "mask_without_zero.tif": (tiff(byte + 1), "it holds 1 and 2"),
        "mask_coloured.tif": (tiff(colour), "its channels differ"),
        "mask_f32.tif": (tiff(byte.astype(np.float32)), "floating-point"),
        "mask_second_page.tif": (pages([byte, three]), "page 1 is no mask: it holds 128 and 255"),
    }
    return good, bad


def main():
    for folder in [HERE / "slices", HERE / "masks", HERE / "refused", SEEDS / "tiff", SEEDS / "png"]:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    for old in HERE.glob("*.raw"):
        old.unlink()
    goldens = {"pictures": {}, "slices": {}, "masks": {}, "not_masks": {}, "refused": {}}
    sources = pictures(20, 17, seed=1)
    for name, array in sources.items():
        slices, percentiles = eight_bit(array)
        (HERE / f"{name}.raw").write_bytes(slices.tobytes())
        goldens["pictures"][name] = {"pages": slices.shape[0], "width": slices.shape[2], "height": slices.shape[1], "percentiles": percentiles}
    for name, (data, source) in encodings(sources).items():
        read_back(name, data, sources[source])
        (HERE / "slices" / name).write_bytes(data)
        goldens["slices"][name] = source
    good, bad = masks(20, 17)
    for name, (data, expected) in good.items():
        raw = name.replace(".", "_") + ".raw"
        (HERE / "masks" / name).write_bytes(data)
        (HERE / raw).write_bytes(expected.astype(np.uint8).tobytes())
        goldens["masks"][name] = raw
    for name, (data, message) in bad.items():
        (HERE / "masks" / name).write_bytes(data)
        goldens["not_masks"][name] = message
    small = pictures(5, 4, seed=2)
    seeds = {name: data for name, (data, _) in encodings(small).items()}
    for name, (data, error, message) in refused(pictures(8, 6, seed=3)).items():
        (HERE / "refused" / name).write_bytes(data)
        goldens["refused"][name] = {"error": error, "message": message}
        seeds[f"refused_{name}"] = data
    for name, data in seeds.items():
        (SEEDS / name.rsplit(".", 1)[1].replace("tif", "tiff") / name).write_bytes(data)
    (HERE / "goldens.json").write_text(json.dumps(goldens, indent=1) + "\n")


if __name__ == "__main__":
    main()
