"""Measures the statistics that the phantoms imitate, on the training patients only.

    pip install numpy scipy scikit-image tifffile
    python make_phantom_statistics.py KAGGLE_3M SPLIT_JSON [OUT.json]

KAGGLE_3M is the unpacked data set (a folder a patient), SPLIT_JSON the list of its patients; validation and test
patients are never opened. The result (default: statistics.json beside this script) holds percentiles over patients or
slices and nothing of any image. `src/imaging/phantom/statistics.rs` freezes the figures that the generator uses;
percentile lists are always the 5th, 25th, 50th, 75th and 95th.

Tissue is told apart without a segmentation: the head is the largest connected region brighter than a tenth of its
99th percentile (of the channels' maximum), filled; the brain is taken as the head eroded by 13 % of its width, less the
lesion; scalp and skull fat as the brightest tenth of the outermost 8 %; background as what lies more than 6 pixels
outside the head. Only slices of the middle of the head (40 % to 75 % of the way up) count for brain intensities. A channel
that is a copy of FLAIR counts for nothing but the share of such patients.
"""

import json
import re
import sys
from pathlib import Path

import numpy as np
import tifffile
from scipy import ndimage
from skimage.measure import perimeter

CHANNELS = ("pre_contrast", "flair", "post_contrast")
PERCENTILES = (5, 25, 50, 75, 95)


def load(folder):
    files = [f for f in folder.glob("*.tif") if not f.stem.endswith("_mask")]
    files.sort(key=lambda f: int(re.search(r"_(\d+)$", f.stem).group(1)))
    images = np.stack([tifffile.imread(f) for f in files])
    masks = np.stack([tifffile.imread(f.with_name(f.stem + "_mask.tif")) > 0 for f in files])
    return images, masks


def head_of(image):
    top = ndimage.gaussian_filter(image.max(axis=2).astype(float), 1.5)
    labels, n = ndimage.label(top > 0.1 * np.percentile(top, 99))
    if n == 0:
        return None
    largest = np.argmax(np.bincount(labels.ravel())[1:]) + 1
    return ndimage.binary_fill_holes(ndimage.binary_closing(labels == largest, iterations=3))


def noise(values, region):
    """Robust standard deviation of what a 2x2 difference filter leaves (Immerkaer-like), inside a region."""
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]]) / 6
    rest = ndimage.convolve(values.astype(float), kernel)[region]
    return float(1.4826 * np.median(np.abs(rest))) if rest.size else 0.0


def texture(values, region, lag):
    """Correlation of the high-passed (sigma 6) image with itself, `lag` columns to the right."""
    v = values.astype(float)
    high = v - ndimage.gaussian_filter(v, 6)
    both = region[:, lag:] & region[:, :-lag]
    if both.sum() < 200:
        return None
    a, b = high[:, lag:][both], high[:, :-lag][both]
    return float(np.corrcoef(a, b)[0, 1]) if a.std() > 0 and b.std() > 0 else None


def spread(values):
    values = [v for v in values if v is not None and np.isfinite(v)]
    return [round(float(v), 4) for v in np.percentile(values, PERCENTILES)]


def main():
    data, split = Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text())
    out = Path(sys.argv[3]) if len(sys.argv) > 3 else Path(__file__).with_name("statistics.json")
    patient = {}
    lists = {}
    medians = []

    def add(name, value):
        if value is not None:
            lists.setdefault(name, []).append(value)

    slices = tumour_slices = tumour_pixels = 0
    copies = {"post_is_flair": 0, "pre_is_flair": 0}
    shape_bins = [[] for _ in range(10)]
    for name in split["train"]:
        images, masks = load(data / name)
        n = len(images)
        slices += n
        area = masks.sum(axis=(1, 2))
        has = np.flatnonzero(area)
        tumour_slices += len(has)
        tumour_pixels += int(area.sum())
        copied = {
            "pre_is_flair": bool((images[..., 0] == images[..., 1]).all()),
            "post_is_flair": bool((images[..., 2] == images[..., 1]).all()),
        }
        for k, v in copied.items():
            copies[k] += v
        borrowed = {c for c, k in ((0, "pre_is_flair"), (2, "post_is_flair")) if copied[k]}
        add("slices_per_patient", n)
        add("tumour_slice_share", len(has) / n)
        add("tumour_span_slices", int(has[-1] - has[0] + 1))
        add("tumour_centre_z", float((area * np.arange(n)).sum() / area.sum() / (n - 1)))
        add("tumour_largest_area", int(area.max()))
        add("tumour_components_3d", int(ndimage.label(masks, np.ones((3, 3, 3)))[1]))
        for a in area[has]:
            add("tumour_area", int(a))
        for a, b in zip(has[:-1], has[1:]):
            if b == a + 1:
                both = (masks[a] & masks[b]).sum()
                add("neighbour_mask_dice", 2 * both / (area[a] + area[b]))
        per = {}
        for z in range(n):
            image, lesion = images[z], masks[z]
            head = head_of(image)
            # Nothing but noise (or a frame of it) at the ends of some studies.
            if head is None or not 0.005 < head.mean() < 0.7:
                continue
            ys, xs = np.nonzero(head)
            height, width = np.ptp(ys) + 1, np.ptp(xs) + 1
            where = z / (n - 1)
            shape_bins[min(9, int(where * 10))].append((width, height, xs.mean(), ys.mean(), head.mean()))
            inside = ndimage.distance_transform_edt(head)
            brain = (inside > 0.13 * width) & ~lesion
            rim = head & (inside < 0.08 * width)
            outside = ndimage.distance_transform_edt(~head) > 6
            if 0.4 <= where <= 0.75 and brain.sum() > 500:
                clean = brain & ~ndimage.binary_dilation(lesion, iterations=8)
                for c, channel in enumerate(CHANNELS):
                    if c in borrowed:
                        continue
                    v = image[..., c]
                    b = v[clean]
                    if b.size < 500 or np.median(b) == 0:
                        continue
                    m = np.median(b)
                    per.setdefault(f"{channel}.brain_median", []).append(m)
                    for q in (1, 5, 25, 75, 95, 99):
                        per.setdefault(f"{channel}.brain_p{q}_to_median", []).append(np.percentile(b, q) / m)
                    per.setdefault(f"{channel}.scalp_to_brain", []).append(np.percentile(v[rim], 90) / m)
                    per.setdefault(f"{channel}.rim_dark_to_brain", []).append(np.percentile(v[rim], 15) / m)
                    per.setdefault(f"{channel}.background_median", []).append(np.median(v[outside]))
                    per.setdefault(f"{channel}.background_p95", []).append(np.percentile(v[outside], 95))
                    per.setdefault(f"{channel}.background_p95_to_brain", []).append(np.percentile(v[outside], 95) / m)
                    per.setdefault(f"{channel}.noise_to_brain", []).append(noise(v, clean) / m)
                    for lag in (1, 2, 4):
                        t = texture(v, clean, lag)
                        if t is not None:
                            per.setdefault(f"{channel}.texture_lag{lag}", []).append(t)
                    v32 = ndimage.gaussian_filter(np.where(clean, v, m).astype(float), 16)
                    per.setdefault(f"{channel}.bias_spread_to_brain", []).append(np.std(v32[clean]) / m)
            if lesion.sum() >= 60:
                near = ndimage.distance_transform_edt(~lesion)
                deep = ndimage.distance_transform_edt(lesion)
                around = brain & (near > 3) & (near < 30)
                for c, channel in enumerate(CHANNELS):
                    if c in borrowed:
                        continue
                    v = image[..., c].astype(float)
                    m = np.median(v[around]) if around.sum() > 50 else 0
                    if m < 3:
                        continue
                    inner = v[lesion]
                    per.setdefault(f"{channel}.lesion_to_brain", []).append(np.median(inner) / m)
                    per.setdefault(f"{channel}.lesion_p10_to_brain", []).append(np.percentile(inner, 10) / m)
                    per.setdefault(f"{channel}.lesion_p90_to_brain", []).append(np.percentile(inner, 90) / m)
                    for label, ring in (
                        ("out6", (near > 4.5) & (near <= 6.5) & brain),
                        ("out2", (near > 1.5) & (near <= 2.5) & brain),
                        ("out1", (near > 0) & (near <= 1.2) & brain),
                        ("in1", (deep > 0) & (deep <= 1.2)),
                        ("in2", (deep > 1.5) & (deep <= 2.5)),
                        ("in6", (deep > 4.5) & (deep <= 6.5)),
                    ):
                        if ring.sum() > 20:
                            per.setdefault(f"{channel}.edge_{label}_to_brain", []).append(v[ring].mean() / m)
                add("tumour_roundness", min(1.0, 4 * np.pi * lesion.sum() / max(perimeter(lesion), 1) ** 2))
                add("tumour_components_2d", int(ndimage.label(lesion, np.ones((3, 3)))[1]))
                cy, cx = (c.mean() for c in np.nonzero(lesion))
                add("tumour_offset_x", abs(cx - xs.mean()) / (width / 2))
                add("tumour_offset_y", (cy - ys.mean()) / (height / 2))
                add("tumour_depth_in_head", float(inside[lesion].min() / width))
                add("tumour_mean_depth_in_head", float(inside[lesion].mean() / width))
        if not borrowed:
            top = [np.median(per.get(f"{c}.lesion_p90_to_brain", [np.nan])) for c in CHANNELS]
            if np.isfinite(top[2] / top[0]):
                add("enhancement", float(top[2] / top[0]))
        if not borrowed:
            grey = {c: per.get(f"{c}.brain_median") for c in CHANNELS}
            if all(grey.values()):
                medians.append(grey)
        for k, v in per.items():
            patient.setdefault(k, []).append(float(np.median(v)))
    result = {
        "patients": len(split["train"]),
        "slices": slices,
        "tumour_slices": tumour_slices,
        "tumour_pixel_share": round(tumour_pixels / (slices * 256 * 256), 6),
        "patients_with_a_copied_channel": copies,
        "percentiles": PERCENTILES,
        "over_patients_of_the_median_slice": {k: spread(v) for k, v in sorted(patient.items())},
        "over_patients_or_slices": {k: spread(v) for k, v in sorted(lists.items())},
        "head_by_tenth_of_the_way_up": [
            dict(zip(("width", "height", "centre_x", "centre_y", "area_share"),
                     (round(float(v), 3) for v in np.median(np.array(b), axis=0))))
            for b in shape_bins
        ],
        "head_width_middle": spread([s[0] for b in shape_bins[4:7] for s in b]),
        "head_height_middle": spread([s[1] for b in shape_bins[4:7] for s in b]),
        "head_centre_x_middle": spread([s[2] for b in shape_bins[4:7] for s in b]),
        "head_centre_y_middle": spread([s[3] for b in shape_bins[4:7] for s in b]),
    }
    result["share_enhancing"] = round(float(np.mean(np.array(lists["enhancement"]) > 1.1)), 3)
    logs = {c: np.log([np.median(m[c]) for m in medians]) for c in CHANNELS}
    result["log_brain_median_correlation"] = [
        [round(float(np.corrcoef(logs[a], logs[b])[0, 1]), 3) for b in CHANNELS] for a in CHANNELS
    ]
    # A list a line: the file is read by people.
    text = json.dumps(result, indent=1)
    text = re.sub(r"\[\s+([^\[\]{}]*?)\s+\]", lambda m: "[" + re.sub(r"\s+", " ", m.group(1)) + "]", text)
    out.write_text(text + "\n")


if __name__ == "__main__":
    main()
