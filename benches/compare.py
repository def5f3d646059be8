#!/usr/bin/env python3
"""Measures glioseg beside its peers in one interleaved run and prints the ratios as a table.

    python3 -m pip install --requirement benches/requirements.txt
    python3 benches/compare.py                       # everything
    python3 benches/compare.py --only 'decode|dice'  # rows whose name matches
    python3 benches/compare.py --table benches/results/FILE.json
    python3 benches/compare.py --only '^(training|original|strong|epoch)' --device cuda --filters 32 --name cuda

The last one measures training on a GPU, with a device of `glioseg-train fit` (`cuda`, `tch-cuda`), beside PyTorch on
the same GPU; `--features` builds the backend (by default the one that the device needs). Where there is no Rust,
`--executables FOLDER` takes the benchmarks and the example `phantom` as they were built elsewhere.

A round runs the Rust side (a criterion benchmark of `shared/benches` or `training/benches`) and then the peer
(`benches/peers.py`) of every row; rounds repeat, so that whatever else the machine does meets both sides alike. A ratio
is taken within a round; the table shows its median over the rounds and its range. Both sides of a row have the same
number of threads. The raw samples go to `benches/results/<date>-<name>.json`, with the command and the machine.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
BENCHES = ("imaging", "scoring", "inference", "candidates", "training")
CANDIDATES = (
    "lean-small",
    "lean-small-norm",
    "lean-medium-norm",
    "lean-fine-norm",
    "lean-tiny-norm",
    "efficient-lite0",
    "unet-8",
    "unet-16",
    "unet-32",
    "attention-unet-8",
)
# What a device needs beyond the default build.
FEATURES = {"cuda": "cuda", "tch": "tch", "tch-cuda": "tch"}
SLICES = 24
BATCH = 16


class Row:
    """One line of the table: a benchmark, its peer where it has one, and how many slices one run works on."""

    def __init__(self, name, bench, ours, peer=None, peer_name="", slices=SLICES, threads=1, model=None):
        self.name, self.bench, self.ours, self.peer, self.peer_name = name, bench, ours, peer, peer_name
        self.slices, self.threads, self.model = slices, threads, model


def rows(models, threads, filters):
    yield Row("decode slices", "imaging", "decode/slices", "decode_slices_pillow", "Pillow")
    yield Row("decode slices", "imaging", "decode/slices", "decode_slices_tifffile", "tifffile")
    yield Row("decode masks", "imaging", "decode/masks", "decode_masks_pillow", "Pillow")
    yield Row("decode masks", "imaging", "decode/masks", "decode_masks_tifffile", "tifffile")
    yield Row("preprocess, x/255", "imaging", "preprocess/unit", "preprocess_unit", "NumPy")
    z_score = "preprocess, percentile and z-score"
    yield Row(z_score, "imaging", "preprocess/percentile_z_score", "preprocess_percentile_z_score", "NumPy")
    yield Row("components, 2-D", "imaging", "components/slices", "components_slices", "SciPy")
    yield Row("components, 3-D", "imaging", "components/volume", "components_volume", "SciPy")
    yield Row("Dice of 4,000 slices", "scoring", "dice/4000_slices", "dice", "NumPy", 4000)
    for model in models:
        ours = f"network/{model.stem}"
        yield Row(f"network {model.stem}", "inference", ours, "network", "ONNX Runtime", 1, model=model)
        yield Row(f"segment with {model.stem}", "inference", f"segment/{model.stem}", slices=1, model=model)
    for name in CANDIDATES:
        yield Row(f"candidate {name}", "candidates", f"candidate/{name}", slices=1)
    for name, ours, peer in [
        (f"training, forward and loss, UNet f={filters}", "forward", "training_forward"),
        (f"training, forward to gradients, UNet f={filters}", "forward_backward", "training_forward_backward"),
        (f"training step, UNet f={filters}", "step", "training_step"),
        ("original transforms", "augmentation_original", "augmentation_original"),
        ("strong transforms", "augmentation_strong", None),
        ("epoch: transforms and step", "epoch_batch", "epoch_batch"),
    ]:
        yield Row(name, "training", f"training/{ours}", peer, "PyTorch" if peer else "", BATCH, threads)
    yield Row("decode, prepare and cache", "training", "data/decode_prepare_cache_96_slices", slices=96)


def build(args):
    """Builds the benchmarks as the tests are built; their executables by name, and the one that writes phantoms."""
    if args.executables:
        return {name: args.executables.resolve() / name for name in (*BENCHES, "phantom")}
    command = ["cargo", "build", "--release", "--workspace", "--example", "phantom", "--message-format", "json"]
    command += [argument for bench in BENCHES for argument in ("--bench", bench)]
    features = args.features or FEATURES.get(args.device)
    command += ["--features", f"glioseg-training/{features}"] if features else []
    output = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    messages = [json.loads(line) for line in output.splitlines()]
    built = [m for m in messages if m["reason"] == "compiler-artifact" and m["executable"]]
    return {m["target"]["name"]: m["executable"] for m in built if set(m["target"]["kind"]) & {"bench", "example"}}


def environment(row, args, scratch):
    """Thread counts for whatever threading library either side uses."""
    names = ("RAYON_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    extra = {name: str(row.threads) for name in names} | {"CRITERION_HOME": str(scratch / "criterion")}
    extra |= {"GLIOSEG_BENCH_DEVICE": args.device, "GLIOSEG_BENCH_FILTERS": str(args.filters)}
    if row.model:
        extra["GLIOSEG_BENCH_MODEL"] = str(row.model)
    return os.environ | extra


def run_ours(row, executable, args, scratch):
    command = [executable, "--bench", "--noplot", "--sample-size", "10", "--warm-up-time", str(args.seconds / 4)]
    command += ["--measurement-time", str(args.seconds), "--exact", row.ours]
    run(command, environment(row, args, scratch))
    folder = scratch / "criterion" / criterion_folder(row.ours)
    sample = json.loads((folder / "new" / "sample.json").read_text())
    return [time / runs for time, runs in zip(sample["times"], sample["iters"])]


def criterion_folder(name):
    """Criterion makes a folder a group; a benchmark outside of any group has its whole name as one folder."""
    grouped = name.startswith(("training/", "data/"))
    return name if grouped else name.replace("/", "_")


def run_peer(row, args, scratch):
    command = [sys.executable, HERE / "peers.py", row.peer, scratch / "phantoms"]
    command += ["--threads", str(row.threads), "--seconds", str(args.seconds)]
    command += ["--device", "cuda" if "cuda" in args.device else "cpu", "--filters", str(args.filters)]
    command += ["--model", row.model] if row.model else []
    return json.loads(run(command, environment(row, args, scratch)).splitlines()[-1])


def run(command, env):
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        sys.exit(f"{command[0]} failed:\n{done.stdout}")
    return done.stdout


def version(*command):
    """What a program says of itself; nothing where it is not there."""
    try:
        return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def machine():
    """What the figures depend on; nothing that names the machine."""
    cpu, memory = platform.processor(), None
    if pathlib.Path("/proc/cpuinfo").exists():
        cpu = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
        cpu = cpu.group(1) if cpu else platform.machine()
        kilobytes = re.search(r"MemTotal:\s*(\d+)", pathlib.Path("/proc/meminfo").read_text())
        memory = round(int(kilobytes.group(1)) / 2**20, 1)
    rustc = version("rustc", "--version")
    gpu = version("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader")
    load = round(os.getloadavg()[0], 2)
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "memory_gib": memory,
        "system": f"{platform.system()} {platform.machine()}",
        "rustc": rustc,
        "gpu": gpu,
        "load_before": load,
    }


def table(results):
    """The Markdown table of a result file."""
    lines = [
        f"{results['date']}, {results['machine']['cpu']}, {results['machine']['cores']} cores{on_gpu(results)}; medians "
        f"of {results['rounds']} rounds; ratio: the peer's time over glioseg's, its range over the rounds in brackets.",
        "",
        "| | threads | glioseg | peer | | ratio |",
        "|---|---|---|---|---|---|",
    ]
    for row in results["rows"]:
        ours = [statistics.median(samples) for samples in row["ours_ns"]]
        cells = [row["name"], str(row["threads"]), pace(statistics.median(ours), row["slices"])]
        if row["peer"]:
            theirs = [statistics.median(samples) for samples in row["peer_ns"]]
            ratios = [t / o for t, o in zip(theirs, ours)]
            cells += [pace(statistics.median(theirs), row["slices"]), row["peer"]]
            cells += [f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"]
        else:
            cells += ["", "", ""]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def on_gpu(results):
    """The GPU, where the training rows ran on one."""
    device = results.get("device", "cpu")
    return f", training by {device} on {results['machine']['gpu']}" if "cuda" in device else ""


def pace(nanoseconds, slices):
    """Time a slice, and slices a second."""
    each = nanoseconds / slices
    time = f"{each / 1e3:.3g} µs" if each < 1e6 else f"{each / 1e6:.3g} ms"
    return f"{time} ({1e9 / each:,.0f}/s)" if each < 1e8 else f"{time} ({1e9 / each:.1f}/s)"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="regular expression of the rows' names")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3, help="time of each side in each round")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of the training rows; all others have one")
    parser.add_argument("--model", type=pathlib.Path, action="append", help="default: all of training/models")
    parser.add_argument("--name", default="all", help="of the result file")
    devices = ("cpu", *FEATURES)
    parser.add_argument("--device", choices=devices, default="cpu", help="of the training rows, as of glioseg-train")
    parser.add_argument("--filters", type=int, default=16, help="of the UNet's first block, in the training rows")
    parser.add_argument("--features", help="backend to build in")
    parser.add_argument("--executables", type=pathlib.Path, help="folder of benchmarks that are built already")
    parser.add_argument("--table", type=pathlib.Path, help="only print the table of this result file")
    args = parser.parse_args()
    if args.table:
        print(table(json.loads(args.table.read_text())))
        return
    models = args.model or sorted((ROOT / "training" / "models").glob("*.onnx"))
    every = rows([m.resolve() for m in models], args.threads, args.filters)
    chosen = [row for row in every if re.search(args.only, row.name)]
    executables = build(args)
    versions = {}
    ours, theirs = [[] for _ in chosen], [[] for _ in chosen]
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        before = machine()
        run([executables["phantom"], scratch / "phantoms", "0"], os.environ)
        for number in range(args.rounds):
            for i, row in enumerate(chosen):
                print(f"round {number + 1}/{args.rounds}: {row.name} {row.peer_name}", file=sys.stderr)
                ours[i].append(run_ours(row, executables[row.bench], args, scratch))
                if row.peer:
                    answer = run_peer(row, args, scratch)
                    theirs[i].append(answer["samples_ns"])
                    versions |= answer["versions"]
    results = {
        "date": datetime.date.today().isoformat(),
        "command": " ".join(["python3", "benches/compare.py", *sys.argv[1:]]),
        "machine": before,
        "device": args.device,
        "versions": versions,
        "rounds": args.rounds,
        "rows": [
            {
                "name": row.name,
                "benchmark": row.ours,
                "peer": row.peer_name,
                "threads": row.threads,
                "slices": row.slices,
                "ours_ns": ours[i],
                "peer_ns": theirs[i],
            }
            for i, row in enumerate(chosen)
        ],
    }
    path = HERE / "results" / f"{results['date']}-{args.name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n")
    print(table(results))


if __name__ == "__main__":
    main()
