#!/usr/bin/env python3
"""Measures the serving layer as it runs, by its release binaries, and prints what it costs as a table.

    python3 benches/serving.py                               # everything
    python3 benches/serving.py --only cold,warm              # parts: cold, warm, folder, load
    python3 benches/serving.py --data kaggle_3m              # real slices for the parts folder and load
    python3 benches/serving.py --table benches/results/FILE.json

- cold: the bootstrap `segment` from the start of its process to its first request for an event, and on to its first
  mask; each time a fresh process, behind a runtime API and before an S3 endpoint (see `benches/lambda_host.py`).
- warm: requests `POST /segment` to one such process, by CPU time between two of its requests for an event. What a
  request takes beside the network is that less the inference that `Server-Timing` tells.
- folder: `glioseg segment` over a folder with one job and with two, in turns.
- load: `glioseg serve` under the uploads of many clients, until every study is announced as complete. Fails unless each
  slice is there once, with every result, and each mask has the bytes that `glioseg segment` writes.

CPU time is the process's own clock. The raw samples go to `benches/results/<date>-serving.json`, with the command and
the machine. Needs nothing but Python's standard library.
"""

import argparse
import base64
import collections
import datetime
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time

from compare import machine
from lambda_host import Lambda, cpu_seconds, resident_mib
from local_stack import ACCESS_KEY, REGION, SECRET_KEY, Client, Stack, presigned

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
PARTS = ("cold", "warm", "folder", "load")
FUNCTION_ENVIRONMENT = {
    "UPLOADS_BUCKET": "uploads",
    "RESULTS_BUCKET": "results",
    "MODELS_BUCKET": "models",
    "MODEL_CHANNEL": "fast",
    "AWS_REGION": REGION,
    "AWS_ACCESS_KEY_ID": ACCESS_KEY,
    "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
}
VIEWS = (
    "application/json",
    "image/tiff",
    "image/png",
    "image/png;view=overlay",
    "image/png;view=probability",
)
# Phantoms of 24 slices that the part load uploads again and again under other names.
DRAWN = 5


def segment_event(image, accept):
    """`POST /segment` as API Gateway hands it over: the committed event of the tests with another image."""
    event = json.loads((ROOT / "tests/e2e/events/http-post-segment-image.json").read_text())
    event["body"] = base64.b64encode(image).decode()
    event["headers"] |= {"accept": accept, "content-type": "image/tiff", "content-length": str(len(image))}
    return event


def expect_mask(answer, accept):
    """Checks that an answer is one, and gives the milliseconds of its stages."""
    if answer.get("statusCode") != 200:
        sys.exit(f"POST /segment failed: {json.dumps(answer)[:2000]}")
    headers = {name.lower(): value for name, value in answer["headers"].items()}
    if headers["content-type"] != accept.split(";")[0]:
        sys.exit(f"{accept} was asked for, {headers['content-type']} is the answer")
    stages = re.findall(r"([a-z]+);dur=([0-9.]+)", headers["server-timing"])
    return {stage: float(milliseconds) for stage, milliseconds in stages}


def cold(args, scratch, phantoms):
    """Fresh processes, one after another: CPU milliseconds and memory at each step."""
    image = next(slices_of(phantoms))[1][0][0].read_bytes()
    runs = []
    with Stack(args.binaries / "glioseg", scratch / "cold") as stack:
        for _ in range(args.processes):
            started = time.monotonic()
            with Lambda(args.binaries / "segment", FUNCTION_ENVIRONMENT, stack.s3) as function:
                ready = function.ready()
                asked = [request for request in function.requests if request["method"] == "GET"]
                if [("current.json" in r["path"], "model.onnx" in r["path"]) for r in asked] != [(1, 0), (0, 1)]:
                    sys.exit(f"start-up read something else than a pointer and a model: {asked}")
                answer, masked = function.invoke(segment_event(image, VIEWS[0]))
                expect_mask(answer, VIEWS[0])
            pointer, model = asked
            cpu = {
                "process, settings, clients": pointer["before"].cpu_s,
                "pointer": model["before"].cpu_s - pointer["before"].cpu_s,
                "model: read, checked, made ready": ready.cpu_s - model["before"].cpu_s,
                "to ready": ready.cpu_s,
                "first mask": masked.cpu_s - ready.cpu_s,
                "to the first mask": masked.cpu_s,
            }
            runs.append(
                {
                    "cpu_ms": {stage: 1e3 * seconds for stage, seconds in cpu.items()},
                    "wall_to_ready_ms": 1e3 * (ready.wall_s - started),
                    "ready_mib": ready.resident_mib,
                    "masked_mib": masked.resident_mib,
                }
            )
    return {"runs": runs}


def warm(args, scratch, phantoms):
    """Requests to one process, the views in turns: CPU milliseconds of each beside what Server-Timing tells."""
    images = [pair[0].read_bytes() for _, pairs in slices_of(phantoms) for pair in pairs]
    samples = {view: [] for view in VIEWS}
    with (
        Stack(args.binaries / "glioseg", scratch / "warm") as stack,
        Lambda(args.binaries / "segment", FUNCTION_ENVIRONMENT, stack.s3) as function,
    ):
        before = function.ready()
        for number in range(args.requests + 1):
            for view in VIEWS:
                answer, after = function.invoke(segment_event(images[number % len(images)], view))
                sample = {
                    "cpu_ms": 1e3 * (after.cpu_s - before.cpu_s),
                    "stages_ms": expect_mask(answer, view),
                    "resident_mib": after.resident_mib["now"],
                }
                # The first one is not counted: it fills what is filled once.
                if number > 0:
                    samples[view].append(sample)
                before = after
        peak = after.resident_mib["peak"]
    return {"samples": samples, "peak_mib": peak, "network_ns": args.network and network(args, scratch)}


def network(args, scratch):
    """The bare network by its benchmark, in one thread: nanoseconds of a run."""
    name = "stage/bare network"
    environment = os.environ | {"RAYON_NUM_THREADS": "1", "CRITERION_HOME": str(scratch / "criterion")}
    command = [args.network, "--bench", "--noplot", "--sample-size", "20", "--warm-up-time", "1"]
    command += ["--exact", name]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode != 0:
        sys.exit(f"the network's benchmark failed:\n{done.stdout.decode()}")
    sample = json.loads((scratch / "criterion" / name / "new" / "sample.json").read_text())
    return [time / runs for time, runs in zip(sample["times"], sample["iters"])]


def segment_folder(args, source, out, jobs):
    """`glioseg segment` as a process: its seconds, its CPU seconds, its memory, and how many slices it wrote."""
    command = [args.binaries / "glioseg", "segment", source, "--out", out, "--jobs", str(jobs)]
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"glioseg segment ended with {process.returncode}")
    slices = len((out / "slices.csv").read_text().splitlines()) - 1
    cpu = usage.ru_utime + usage.ru_stime
    return {"jobs": jobs, "slices": slices, "wall_s": wall, "cpu_s": cpu, "peak_mib": usage.ru_maxrss / 1024}


def folder(args, scratch, phantoms):
    """The folder with one job and with two, in turns, each first every other time."""
    source = args.data or phantoms
    rounds = []
    for number in range(args.rounds):
        pair = []
        for jobs in (1, 2) if number % 2 == 0 else (2, 1):
            # Nothing is deleted in between: for half a minute ext4 walks past each deleted inode when it needs one.
            out = scratch / f"folder-{number}-{jobs}"
            pair.append(segment_folder(args, source, out, jobs))
        rounds.append(sorted(pair, key=lambda run: run["jobs"]))
    return {"rounds": rounds}


def slices_of(source):
    """The studies below a folder, one folder each: name, and (slice, truth) in the order of their numbers."""
    for study in sorted(path for path in pathlib.Path(source).iterdir() if path.is_dir()):
        truths = study.glob("*_mask.tif")
        pairs = [(truth.with_name(truth.name.replace("_mask.tif", ".tif")), truth) for truth in truths]
        pairs.sort(key=lambda pair: int(re.search(r"(\d+)\.tif$", pair[0].name).group(1)))
        if pairs:
            yield study.name, pairs


def uploads(source, slices):
    """What the clients upload: studies until there are as many slices, the last one cut; each closed by its count."""
    studies = [pairs for _, pairs in slices_of(source)]
    number = 0
    while slices > 0:
        pairs = studies[number % len(studies)][:slices]
        study = f"load-{number}"
        yield f"{study}/study.json", json.dumps({"slices": len(pairs)}).encode(), None
        for path, truth in pairs:
            yield f"{study}/{path.name}", path.read_bytes(), path
            yield f"{study}/{truth.name}", truth.read_bytes(), None
        slices -= len(pairs)
        number += 1


def load(args, scratch, phantoms):
    """Uploads as fast as the clients can, then waits for the last study, then counts and compares everything."""
    source = args.data or phantoms
    sent = list(uploads(source, args.slices))
    slices = {key.removesuffix(".tif"): path for key, _, path in sent if path}
    studies = {key.split("/")[0] for key, _, _ in sent}
    with Stack(args.binaries / "glioseg", scratch / "load") as stack:
        work = iter([(presigned(stack.s3, "PUT", "uploads", key), body) for key, body, _ in sent])
        clients, failures, lock = [], [], threading.Lock()

        def upload():
            client = Client(stack.s3)
            try:
                while True:
                    with lock:
                        link, body = next(work, (None, None))
                    if link is None:
                        return
                    client.send("PUT", link, body)
            except Exception as failure:
                failures.append(failure)

        watching, resident = True, []

        def watch():
            while watching:
                resident.append([time.monotonic() - began, resident_mib(stack.pid)["now"]])
                time.sleep(0.25)

        began, cpu, client_cpu = time.monotonic(), cpu_seconds(stack.pid), time.process_time()
        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        clients = [threading.Thread(target=upload) for _ in range(args.clients)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        uploaded = time.monotonic() - began
        announced = collections.Counter()
        while not failures and len(announced) < len(studies):
            line = stack.next_line()
            if line.startswith("StudyCompleted: "):
                announced[json.loads(line.removeprefix("StudyCompleted: "))["study"]] += 1
        wall, cpu = time.monotonic() - began, cpu_seconds(stack.pid) - cpu
        client_cpu = time.process_time() - client_cpu
        peak = resident_mib(stack.pid)["peak"]
        watching = False
        watcher.join()
        if failures:
            sys.exit(f"an upload failed: {failures[0]}")
        check(args, scratch, stack, source, slices, studies)
    return {
        "slices": len(slices),
        "studies": len(studies),
        "objects": len(sent),
        "megabytes": sum(len(body) for _, body, _ in sent) / 1e6,
        "clients": args.clients,
        "uploaded_s": uploaded,
        "wall_s": wall,
        "cpu_s": cpu,
        "clients_cpu_s": client_cpu,
        "peak_mib": peak,
        "resident_mib": resident,
        "announcements": sum(announced.values()),
        "retried": [line.strip() for line in stack.lines if "is tried again" in line],
        "dead": stack.dead_letters(),
    }


def check(args, scratch, stack, source, slices, studies):
    """Every result once, none else, and each mask as `glioseg segment` writes it."""
    out = scratch / "expected"
    segment_folder(args, source, out, os.cpu_count())
    client = Client(stack.s3)
    names = set(slices)
    expected = {
        "prepared": (names, ".png"),
        "truth": (names, ".tif"),
        "masks": (names, ".tif"),
        "overlays": (names, ".png"),
        "probabilities": (names, ".png"),
        "reports": (names, ".json"),
        "scores": (names, ".json"),
        "studies": ({f"{study}/{file}" for study in studies for file in ("study", "completed")}, ".json"),
        "rejected": (set(), ""),
    }
    for kind, (stems, end) in expected.items():
        wanted = {f"{kind}/{stem}{end}" for stem in stems}
        found = list(client.list("results", f"{kind}/"))
        if sorted(found) != sorted(wanted):
            missing, beyond = sorted(wanted - set(found)), sorted(set(found) - wanted)
            sys.exit(f"{kind}: {len(missing)} lost {missing[:3]}, {len(beyond)} that should not be {beyond[:3]}")
    for name, path in slices.items():
        mask = out / "masks" / path.relative_to(source).with_suffix(".tif")
        if client.get("results", f"masks/{name}.tif") != mask.read_bytes():
            sys.exit(f"masks/{name}.tif has other bytes than {mask.name} of glioseg segment")


def build():
    """Builds what is measured as the tests are built; where the binaries are, and the two other executables."""
    command = ["cargo", "build", "--release", "--workspace", "--bins", "--example", "phantom", "--bench", "request"]
    output = subprocess.run(
        [*command, "--message-format", "json"], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    messages = [json.loads(line) for line in output.splitlines()]
    built = {m["target"]["name"]: m["executable"] for m in messages if m.get("executable")}
    return pathlib.Path(built["glioseg"]).parent, built["phantom"], built["request"]


def spread(values, unit, digits=1):
    """Median and range."""
    values = list(values)
    figures = (f"{value:,.{digits}f}" for value in (statistics.median(values), min(values), max(values)))
    median, low, high = figures
    return f"{median} {unit}", f"{low} to {high}"


def table_rows(parts):
    """The lines of the table: what, median or figure, range."""
    if runs := parts.get("cold", {}).get("runs"):
        for stage in runs[0]["cpu_ms"]:
            yield f"cold start, CPU: {stage}", *spread((run["cpu_ms"][stage] for run in runs), "ms")
        for what, moment in (("when ready", "ready_mib"), ("after the first mask", "masked_mib")):
            yield f"cold start, resident {what}", *spread((run[moment]["now"] for run in runs), "MiB")
        yield "cold start, most resident up to the first mask", *spread((r["masked_mib"]["peak"] for r in runs), "MiB")
    if samples := parts.get("warm", {}).get("samples"):
        for view, taken in samples.items():
            beside = [sample["cpu_ms"] - sample["stages_ms"]["inference"] for sample in taken]
            yield f"warm request {view}, CPU", *spread((sample["cpu_ms"] for sample in taken), "ms")
            yield f"warm request {view}, CPU beside inference", *spread(beside, "ms", 2)
        every = [sample["stages_ms"] for taken in samples.values() for sample in taken]
        for stage in every[0]:
            yield f"warm request, {stage}", *spread((stages[stage] for stages in every), "ms", 2)
        if nanoseconds := parts["warm"]["network_ns"]:
            yield "bare network by its benchmark", *spread((time / 1e6 for time in nanoseconds), "ms")
        yield "warm requests, most resident", f"{parts['warm']['peak_mib']:.1f} MiB", ""
    if rounds := parts.get("folder", {}).get("rounds"):
        for jobs, of in enumerate(zip(*rounds), 1):
            name = f"folder of {of[0]['slices']:,} slices, {jobs} job{'s' if jobs > 1 else ''}"
            yield name, *spread((run["slices"] / run["wall_s"] for run in of), "slices/s")
            yield f"{name}, CPU a slice", *spread((1e3 * run["cpu_s"] / run["slices"] for run in of), "ms")
            yield f"{name}, most resident", *spread((run["peak_mib"] for run in of), "MiB")
        gains = (one["wall_s"] / two["wall_s"] for one, two in rounds)
        yield "folder, gain of the second job", *spread(gains, "times", 2)
    if of := parts.get("load"):
        name = f"load of {of['slices']:,} slices by {of['clients']} clients"
        yield f"{name}: uploaded", f"{of['uploaded_s']:.1f} s", ""
        yield f"{name}: all segmented and scored", f"{of['wall_s']:.1f} s", ""
        yield f"{name}: slices a second", f"{of['slices'] / of['wall_s']:.1f}", ""
        yield f"{name}: CPU a slice", f"{1e3 * of['cpu_s'] / of['slices']:.1f} ms", ""
        yield f"{name}: CPU a slice, of the clients", f"{1e3 * of['clients_cpu_s'] / of['slices']:.1f} ms", ""
        yield f"{name}: retried, given up, lost or doubled", f"{len(of['retried'])}, {of['dead']}, 0", ""
        yield f"{name}: most resident", f"{of['peak_mib']:.0f} MiB", ""
        quarters = [of["resident_mib"][len(of["resident_mib"]) * quarter // 4 - 1][1] for quarter in (1, 2, 3, 4)]
        yield f"{name}: resident after each quarter of the time", f"{', '.join(f'{q:.0f}' for q in quarters)} MiB", ""


def table(results):
    """The Markdown table of a result file."""
    lines = [
        f"{results['date']}, {results['machine']['cpu']}, {results['machine']['cores']} cores; model "
        f"{results['versions']['model']}; medians, ranges beside them.",
        "",
        "| | median | range |",
        "|---|---|---|",
    ]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in table_rows(results["parts"])])


def parts_of(text):
    chosen = text.split(",")
    if unknown := set(chosen) - set(PARTS):
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: the parts are {', '.join(PARTS)}")
    return chosen


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=parts_of, default=list(PARTS), help="parts, separated by commas")
    parser.add_argument("--data", type=pathlib.Path, help="folder of studies for folder and load; default: phantoms")
    parser.add_argument("--processes", type=int, default=10, help="fresh processes of the part cold")
    parser.add_argument("--requests", type=int, default=200, help="of the part warm, for each of the five views")
    parser.add_argument("--rounds", type=int, default=3, help="of the part folder")
    parser.add_argument("--phantoms", type=int, default=20, help="of 24 slices, for the part folder without --data")
    parser.add_argument("--slices", type=int, default=3000, help="of the part load")
    parser.add_argument("--clients", type=int, default=32, help="of the part load")
    parser.add_argument("--binaries", type=pathlib.Path, help="folder of built binaries; default: built first")
    parser.add_argument("--results", type=pathlib.Path, default=HERE / "results", help="folder of the result file")
    parser.add_argument("--name", default="serving", help="of the result file")
    parser.add_argument("--table", type=pathlib.Path, help="only print the table of this result file")
    args = parser.parse_args()
    if args.table:
        print(table(json.loads(args.table.read_text())))
        return
    if args.binaries:
        args.binaries, args.network = args.binaries.resolve(), None
        phantom = args.binaries / "examples" / "phantom"
    else:
        args.binaries, phantom, args.network = build()
    measured = {"cold": cold, "warm": warm, "folder": folder, "load": load}
    results = {}
    with tempfile.TemporaryDirectory(prefix="glioseg-serving-") as scratch:
        scratch = pathlib.Path(scratch)
        drawn = {"few": DRAWN, "many": args.phantoms if not args.data else 1}
        for name, count in drawn.items():
            subprocess.run([phantom, scratch / name, *map(str, range(count))], check=True)
        before = machine()
        model = shipped_model(args, scratch)
        for part in args.only:
            print(f"{part} …", file=sys.stderr)
            phantoms = scratch / ("many" if part == "folder" else "few")
            results[part] = measured[part](args, scratch, phantoms)
    answer = {
        "date": datetime.date.today().isoformat(),
        "command": " ".join(["python3", "benches/serving.py", *sys.argv[1:]]),
        "machine": before,
        "versions": {"glioseg": version(args), "model": model, "python": sys.version.split()[0]},
        "parts": results,
    }
    args.results.mkdir(exist_ok=True)
    path = args.results / f"{answer['date']}-{args.name}.json"
    path.write_text(json.dumps(answer, indent=1) + "\n")
    print(table(answer))


def shipped_model(args, scratch):
    with Stack(args.binaries / "glioseg", scratch / "model") as stack:
        return stack.model


def version(args):
    said = subprocess.run([args.binaries / "glioseg", "--version"], check=True, stdout=subprocess.PIPE, text=True)
    return said.stdout.split()[1]


if __name__ == "__main__":
    main()
