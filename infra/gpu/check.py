"""The steps of check.sh, in order, each with a time limit; what they found goes to report.py.

A step does its work with `call`, and then judges what came of it. In a dry run it only does the first half:
commands are printed instead of run, and held against the program's own help.
"""
import argparse
import datetime
import glob
import gzip
import json
import os
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
import time

import program
import report
import runs

HERE = os.path.dirname(os.path.abspath(__file__))
PRECISIONS = ("f32", "tf32", "bf16")
BUDGET_S = 600

# (d, n, precisions of our benchmark, limit, precision of torch's, limit)
SHAPES = [
    (4096, 131_072, (("bf16", 40), ("tf32", 30)), "bf16", 55),
    (2048, 65_536, (("bf16", 20),), "bf16", 35),
    (768, 24_576, (("bf16", 10), ("f32", 10)), "bf16", 30),
]
K, BATCH = 64, 16_384
# End to end: width, latents, rows on disk, how often they are read
STREAM = {"d": 2048, "n": 65_536, "rows": 262_144, "passes": 32}


class Failed(Exception):
    """Something is not as it must be."""


class Skipped(Exception):
    """Something cannot be looked at here; why."""


class Check:
    def __init__(self, a, work):
        self.a, self.work, self.dry = a, work, a.dry_run
        self.logs = os.path.join(a.out, "logs")
        os.makedirs(self.logs, exist_ok=True)
        self.began, self.steps, self.limits = time.monotonic(), [], 0
        self.asked = {}  # in a dry run: words of a command -> the flags it was given
        self.stop = None  # why nothing after this can work
        self.found = {"bench": [], "baselines": [], "end_to_end": None}

    # How a step runs

    def step(self, name, limit_s, do, judge):
        """`do()` calls programs, `judge(what do returned)` says in a line what came of it."""
        if self.a.only and not any(word in name for word in self.a.only.split(",")):
            return
        self.limits += limit_s
        left = BUDGET_S - (time.monotonic() - self.began)
        self.deadline = time.monotonic() + min(limit_s, left)
        self.log = os.path.join(self.logs, f"{len(self.steps):02}-{name.replace(' ', '-').replace(',', '')}.txt")
        print(f"\n=== {name} (at most {limit_s} s)" if self.dry else f"{name} …", flush=True, file=self.to())
        began = time.monotonic()
        try:
            if self.stop:
                raise Skipped(self.stop)
            if left < 1:
                raise Skipped(f"the {BUDGET_S} s are over")
            done = do()
            status, says = ("planned", "") if self.dry else ("fine", judge(done))
        except Skipped as why:
            status, says = "skipped", str(why)
        except Failed as why:
            status, says = "FAILED", str(why)
        except Exception as error:  # a step that cannot be judged has failed, and the others still count
            status, says = "FAILED", f"{type(error).__name__}: {error}"
        seconds = round(time.monotonic() - began, 1)
        self.steps.append({"name": name, "status": status, "seconds": seconds, "limit_s": limit_s, "says": says})
        if says:
            print(f"  {status}: {says}", flush=True, file=self.to())
        return status

    def to(self):
        return sys.stdout if self.dry else sys.stderr

    def call(self, command, watch=None, **how):
        """Runs a command within what is left of the step; prints it in a dry run."""
        command = [str(word) for word in command]
        if self.dry:
            print(f"  $ {shlex.join(command)}")
            if command[0] == self.a.atomflow:
                self.ask(command[1:])
            return None
        limit = max(1.0, self.deadline - time.monotonic())
        return program.run(command, limit, self.log, cwd=self.work, watch=watch, **how)

    def good(self, *command, **how):
        """A call that must end well."""
        ran = self.call(command, **how)
        if ran and (ran.late or ran.code != 0):
            raise Failed(f"{' '.join(map(str, ran.command[1:3]))}: {ran.why()}")
        return ran

    def ask(self, words):
        """Remembers which flags a command of ours was given, to hold them against its help."""
        names = [word for word in words if not word.startswith("-")]
        name = (names[0], names[1]) if names[0] == "bench" else (names[0],)
        flags = {word for word in words if word.startswith("--") and word != "--json"}
        self.asked.setdefault(name, set()).update(flags)

    def skip_unless(self, tool, why):
        if not self.dry and not shutil.which(tool):
            raise Skipped(why)

    # Devices and kernels

    def devices(self):
        return self.good(self.a.atomflow, "devices", "--json")

    def a_usable_card(self, ran):
        named = [device for device in ran.last.get("devices", []) if device["name"] == self.a.device]
        if not named or not named[0].get("usable"):
            others = [d for d in ran.last.get("devices", []) if not d.get("usable")]
            reasons = "; ".join(f"{d['name']}: {d.get('reason')} ({d.get('hint')})" for d in others)
            self.stop = f"{self.a.device} cannot be used"
            raise Failed(f"{self.stop}. {reasons or 'The program knows no such device.'}")
        card = self.found["card"] = named[0]
        self.found["cards"] = sum(device.get("usable", False) for device in ran.last["devices"])
        return f"{card.get('model')}, driver {card.get('driver')}, {card.get('memory_bytes', 0) / 1e9:.0f} GB"

    def verify(self):
        return self.call([self.a.atomflow, "devices", "--verify", self.a.device, "--json"])

    def every_kernel_fine(self, ran):
        checks = ran.last.get("checks", [])
        self.found["checks"] = checks
        bad = [f"{c['name']} {c['shape']}: {c['worst']:.2e} > {c['tolerance']:.0e}" for c in checks if not c["fine"]]
        if bad:
            raise Failed(f"{len(bad)} of {len(checks)}: {'; '.join(bad[:3])}")
        if ran.code != 0 or not checks:
            raise Failed(ran.why())
        names = {check["name"] for check in checks}
        worst = max([c["worst"] / c["tolerance"] for c in checks if c["tolerance"]], default=0.0)
        return f"{len(checks)} comparisons, {len(names)} kernels; the worst at {worst:.2f} of its tolerance"

    def memory(self):
        tool = "compute-sanitizer"
        self.skip_unless(tool, f"{tool} is not on the PATH (it comes with the CUDA toolkit)")
        checked = [self.a.atomflow, "devices", "--verify", self.a.device]
        return self.call([tool, "--tool", "memcheck", "--error-exitcode", "99", *checked])

    def no_memory_errors(self, ran):
        summaries = [line for line in ran.lines if "ERROR SUMMARY" in line]
        if ran.code != 0:
            raise Failed(summaries[-1] if summaries else ran.why())
        return summaries[-1].strip("= ") if summaries else "no errors"

    # Runs

    def on_card(self, precision, checkpoint=12, moments="f32"):
        device = [f'runtime.device="{self.a.device}"', f'runtime.precision="{precision}"', f'runtime.moments="{moments}"']
        return self.sets(*device, f"runtime.checkpoint_windows={checkpoint}")

    def sets(self, *fields):
        return [word for field in fields for word in ("--set", field)]

    def train(self, out, *sets, watch=None):
        spec, shards = os.path.join(HERE, "job.toml"), os.path.join(self.a.data, "*.parquet")
        job = [self.a.atomflow, "--json", "run", spec, "--out", out, *self.sets(f"source.url={json.dumps(shards)}")]
        return self.call([*job, *sets], watch=watch) if watch else self.good(*job, *sets)

    def path(self, out):
        return os.path.join(self.work, out)

    def have(self, *outs):
        """Runs that an earlier step was to leave behind."""
        for out in outs:
            if not self.dry and not os.path.exists(os.path.join(self.path(out), "manifest.json")):
                raise Skipped(f"the run {out} is not there to compare with")

    def on_processor(self):
        return self.train("cpu")

    def trained(self, ran):
        metrics = runs.metrics(self.path("cpu"))
        steps = runs.curve(self.path("cpu"))[-1]["step"]
        return f"{steps} steps, held-out FVU {metrics['heldout_fvu']:.4f}, {ran.seconds:.1f} s"

    def curve_on_card(self, precision):
        self.have("cpu")
        return self.train(f"card-{precision}", *self.on_card(precision))

    def curve_as_on_processor(self, precision, ran):
        figures, bounds = runs.apart(self.path(f"card-{precision}"), self.path("cpu")), runs.CURVES[precision]
        self.found.setdefault("curves", {})[precision] = figures
        return self.near(figures, bounds, "the processor's")

    def near(self, figures, bounds, whose):
        if far := runs.beyond(figures, bounds):
            raise Failed(f"loss or FVU too far from {whose}: {', '.join(far)}")
        return (
            f"{figures['steps']} steps; loss within {figures['first']:.1e} in the first {runs.FIRST} (≤ {bounds['first']:g}), "
            f"{figures['all']:.1e} throughout (≤ {bounds['all']:g}); held-out FVU within {figures['fvu']:.1e} (≤ {bounds['fvu']:g})"
        )

    def on_all_cards(self):
        self.have("cpu")
        if not self.dry and self.found.get("cards", 0) < 2:
            raise Skipped("there is one card")
        for split in runs.SPLITS:
            sets = self.sets('runtime.device="cuda:*"', 'runtime.precision="f32"', f'runtime.split="{split}"')
            self.train(f"all-{split}", *sets)

    def curves_as_on_processor(self, _):
        told, far = [], []
        for split in runs.SPLITS:
            figures = runs.apart(self.path(f"all-{split}"), self.path("cpu"))
            self.found.setdefault("splits", {})[split] = figures
            far += [f"{split}: {one}" for one in runs.beyond(figures, runs.CURVES["f32"])]
            told.append(f"{split}: loss within {figures['all']:.1e}, held-out FVU within {figures['fvu']:.1e}")
        if far:
            raise Failed(f"loss or FVU too far from the processor's: {', '.join(far)}")
        return f"{self.found['cards']} cards; {'; '.join(told)}"

    def curve_in_bytes(self):
        self.have("card-bf16")
        return self.train("card-8bit", *self.on_card("bf16", moments="8bit"))

    def curve_as_in_floats(self, ran):
        figures = runs.apart(self.path("card-8bit"), self.path("card-bf16"))
        self.found.setdefault("curves", {})["8bit"] = figures
        return self.near(figures, runs.MOMENTS_8BIT, "that with moments in f32")

    def again(self):
        self.have("card-f32", "card-bf16")
        for precision in ("f32", "bf16"):
            self.train(f"again-{precision}", *self.on_card(precision))

    def same_bytes(self, _):
        for precision in ("f32", "bf16"):
            self.compare(f"again-{precision}", f"card-{precision}", f"two runs in {precision} differ in")
        return f"{len(runs.result(self.path('card-f32')))} files each, in f32 and in bf16"

    def compare(self, one, other, what):
        if names := runs.differing(self.path(one), self.path(other)):
            raise Failed(f"{what} {len(names)} files: {', '.join(names[:3])}")

    def killed(self):
        """Killed while it trains, resumed, killed when the dictionary is frozen, resumed to the end."""
        self.have("card-f32")
        out, sets = self.path("killed"), self.on_card("f32")
        if self.dry:
            print("  killed (SIGKILL) when epoch/train-… of the 48th window appears, again at epoch/freeze.json:")
        appeared = lambda name: lambda process, lines: os.path.exists(os.path.join(out, name))
        first = self.train(out, *sets, watch=appeared("epoch/train-00000048.json"))
        phases = [self.phase(out)]
        resume = [self.a.atomflow, "--json", "resume", out, *sets]
        self.call(resume, watch=appeared("epoch/freeze.json"))
        phases.append(self.phase(out))
        self.good(*resume)
        return first, phases

    def phase(self, out):
        for name, phase in [("manifest.json", "done"), ("tables", "publishing"), ("epoch/freeze.json", "harvesting")]:
            if os.path.exists(os.path.join(out, name)):
                return phase
        return "training" if glob.glob(os.path.join(glob.escape(out), "epoch", "train-*")) else "not begun"

    def as_if_never_killed(self, done):
        first, phases = done
        if phases[0] != "training":
            raise Failed(f"the process was {phases[0]} when it was to be killed while training ({first.why()})")
        self.compare("killed", "card-f32", "the resumed run and the one that was never killed differ in")
        return f"killed while {phases[0]} and while {phases[1]}; the same bytes"

    def harvest(self):
        """The processor's dictionary, harvested on the card: a copy of its run, taken back to the freeze."""
        self.have("cpu")
        for precision in PRECISIONS:
            out = self.path(f"harvest-{precision}")
            if not self.dry:
                shutil.copytree(self.path("cpu"), out)
                for name in ("partials", "tables"):
                    shutil.rmtree(os.path.join(out, name))
                for name in [os.path.join(out, "manifest.json"), *glob.glob(f"{glob.escape(out)}/epoch/harvest-*")]:
                    os.remove(name)
            self.good(self.a.atomflow, "--json", "resume", out, *self.on_card(precision))

    def counts_as_on_processor(self, _):
        told, far = [], []
        for precision in PRECISIONS:
            one, other, bounds = self.path(f"harvest-{precision}"), self.path("cpu"), runs.HARVEST[precision]
            a, b = runs.metrics(one), runs.metrics(other)
            figures = {"fvu": abs(a["heldout_fvu"] - b["heldout_fvu"]), "moved": runs.moved(one, other)}
            self.found.setdefault("harvest", {})[precision] = figures
            if figures["moved"] is None:
                bounds = {"fvu": bounds["fvu"]}
            if a["l0"] != b["l0"] and precision == "f32":
                far.append(f"{precision}: L0 {a['l0']} and {b['l0']}")
            far += [f"{precision}: {one}" for one in runs.beyond(figures, bounds)]
            moved = "counts not compared" if figures["moved"] is None else f"{figures['moved']:.1e} of fires moved (≤ {bounds['moved']:g})"
            told.append(f"{precision}: {moved}, FVU within {figures['fvu']:.1e} (≤ {bounds['fvu']:g})")
        if far:
            raise Failed("; ".join(far))
        unread = any(figures["moved"] is None for figures in self.found["harvest"].values())
        return "; ".join(told) + ("; nothing here reads Parquet (pyarrow, duckdb, polars)" if unread else "")

    # Speed

    def bench(self, d, n, precision):
        shape = ["--d", d, "--n", n, "--k", K, "--batch", BATCH, "--precision", precision]
        return self.good(self.a.atomflow, "bench", "card", "--device", self.a.device, *shape, "--json")

    def benched(self, d, n, precision, ran):
        figures = {"d": d, "n": n, "k": K, "batch": BATCH, "precision": precision, **ran.last}
        self.found["bench"].append(figures)
        return (
            f"encode {figures['encode_s'] * 1e3:.2f} ms, {figures['encode_tflops']:.0f} TFLOP/s; "
            f"step {figures['step_s'] * 1e3:.2f} ms, {figures['tokens_per_s'] / 1e6:.2f} M tokens/s; "
            f"rows up {figures['rows_up_gb_per_s']:.1f} GB/s"
        )

    def baselines(self, d, n, precision):
        shape = ["--d", d, "--n", n, "--k", K, "--batch", BATCH, "--precision", precision]
        if not self.dry and subprocess.run([sys.executable, "-c", "import torch"], capture_output=True).returncode:
            raise Skipped(f"torch cannot be imported by {sys.executable}: no baselines")
        return self.call([sys.executable, os.path.join(HERE, "baselines.py"), *shape, "--device", self.a.device])

    def baselined(self, ran):
        """What was measured counts even where the time was over before the rest."""
        measured = [line for line in ran.objects if line.get("event") == "baseline"]
        self.found["baselines"] += measured
        failed = [f"{line['name']}: {line['reason']}" for line in ran.objects if line.get("event") == "failed"]
        wrong = [line["name"] for line in ran.objects if line.get("event") == "check"]
        if wrong:
            raise Failed(f"the sparse step of torch is not the dense one: {wrong[0]}; nothing was timed")
        told = [f"{line['name']} {line['step_s'] * 1e3:.1f} ms" for line in measured]
        if ran.late:
            failed.append("the time was over before the rest")
        if not measured:
            raise Failed("; ".join(failed) or ran.why())
        return "; ".join(told + failed)

    def stream(self):
        """Trains from shards on this disk until the last step, and no further."""
        s, shards = STREAM, self.path("shards")
        made = [sys.executable, os.path.join(HERE, "shards.py"), shards, "--d", s["d"], "--rows", s["rows"]]
        self.good(*made)
        cold = None if self.dry else read_rate(shards)
        workers = min(16, os.cpu_count() or 1)
        fields = [
            f"source.url={json.dumps(os.path.join(shards, '*.parquet'))}", "source.prefetch_bytes=2147483648",
            "source.filter={}", f"plan.passes={s['passes']}", f"plan.batch_rows={BATCH}", "plan.heldout=0.0",
            f"plan.window_rows={8 * BATCH}", "plan.lanes=16", f"learner.n_latents={s['n']}", f"learner.k={K}",
            f"runtime.workers={workers}",
        ]
        job = [self.a.atomflow, "--json", "run", os.path.join(HERE, "job.toml"), "--out", "stream"]
        over = lambda process, lines: any('"event":"train"' in line and trained(line) for line in lines[-3:])
        busy = Busy(None if self.dry else shutil.which("nvidia-smi"), self.a.device)
        try:
            ran = self.call([*job, *self.sets(*fields), *self.on_card("bf16", 1_000_000)], watch=over)
        finally:
            shares = busy.end()
            shutil.rmtree(shards, ignore_errors=True)
        return ran, cold, shares

    def streamed(self, done):
        ran, cold, shares = done
        events = [line for line in ran.objects if line.get("event") == "train" and line.get("rows_per_s")]
        if not events:
            raise Failed(ran.why())
        figures = {**steady(events), "disk_gb_per_s": cold, "nvidia_smi_busy": shares}
        self.found["end_to_end"] = figures
        smi = "" if shares is None else f" (nvidia-smi: {100 * shares:.0f} %)"
        return (
            f"{figures['tokens_per_s'] / 1e6:.2f} M tokens/s, card busy {100 * figures['busy']:.0f} %{smi}, "
            f"{figures['gb_per_s']:.2f} GB/s of Parquet; the disk gives {cold:.2f} GB/s"
        )


class Busy:
    """How busy nvidia-smi says the card is, five times a second; None where there is no such program."""

    def __init__(self, tool, device):
        self.process = None
        if tool:
            ask = [tool, "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "200"]
            index = ["-i", device.rpartition(":")[2]] if device.rpartition(":")[2].isdigit() else []
            self.process = subprocess.Popen([*ask, *index], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    def end(self):
        if not self.process:
            return None
        self.process.terminate()
        values = [float(line) for line in self.process.communicate()[0].split() if line.isdigit()]
        # From the first busy moment on: before it, shards are scanned and the first window is read.
        busy = values[next((at for at, value in enumerate(values) if value > 0), len(values)) :]
        return sum(busy) / len(busy) / 100 if busy else None


def trained(line):
    event = program.parsed(line) or {}
    return event.get("step", 0) >= event.get("steps", 1)


def steady(events):
    """Rates since the first event, which has the wait for the first window behind it; since the start if it
    is the only one. What events tell are means since training began, so they are made sums first."""

    def sums(event):
        seconds = event["step"] * BATCH / event["rows_per_s"]
        return event["step"] * BATCH, seconds, event["wait_share"] * seconds, event["gb_per_s"] * seconds

    start = sums(events[0]) if events[-1]["step"] > events[0]["step"] else (0, 0, 0, 0)
    rows, seconds, waited, read = (end - begin for begin, end in zip(start, sums(events[-1])))
    return {
        "tokens_per_s": rows / seconds, "busy": 1 - waited / seconds, "gb_per_s": read / seconds,
        "steps": events[-1]["step"], "seconds": seconds,
    }


def read_rate(directory):
    """GB/s at which the files come from the disk, their pages dropped first where the system lets us."""
    read, began = 0, time.monotonic()
    for path in sorted(glob.glob(os.path.join(glob.escape(directory), "*"))):
        with open(path, "rb", buffering=0) as file:
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            while block := file.read(8 << 20):
                read += len(block)
    return read / 1e9 / (time.monotonic() - began)


# What must hold in a dry run


def dry(check):
    """Holds every command against the program's help, the job against its data, the baselines against torch."""
    faults, program_path = [], check.a.atomflow
    print("\n=== what can be said without a card")

    def tell(fine, what):
        print(f"  {'fine' if fine else 'FAULT'}: {what}")
        if not fine:
            faults.append(what)

    def ran(*command):
        return subprocess.run([str(word) for word in command], capture_output=True, text=True, cwd=check.work)

    for words, flags in sorted(check.asked.items()):
        shown = ran(program_path, *words, "--help")
        missing = sorted(flag for flag in flags if flag not in shown.stdout)
        lacks = f", which does not know {', '.join(missing)}" if shown.returncode == 0 and missing else ""
        exists = "" if shown.returncode == 0 else " does not exist"
        tell(not missing and shown.returncode == 0, f"atomflow {' '.join(words)} {' '.join(sorted(flags))}{exists}{lacks}")
    schema = program.parsed(ran(program_path, "schema").stdout) or {}
    known = schema.get("$defs", {}).get("RuntimeSpec", {}).get("properties", {})
    for field in ("device", "precision", "moments", "split", "checkpoint_windows", "workers"):
        tell(field in known, f"runtime.{field} is {'a' if field in known else 'not a'} field of a job")
    shards = json.dumps(os.path.join(check.a.data, "*.parquet"))
    job = ran(program_path, "check", os.path.join(HERE, "job.toml"), "--set", f"source.url={shards}")
    tell(job.returncode == 0, f"the job and its shards are good {job.stderr.strip() if job.returncode else ''}")
    made = ran(sys.executable, os.path.join(HERE, "shards.py"), "made", "--d", 64, "--rows", 3000, "--shards", 2)
    url = json.dumps("made/*.parquet")
    job = ran(program_path, "check", os.path.join(HERE, "job.toml"), "--set", f"source.url={url}", "--set", "source.filter={}")
    tell(made.returncode == job.returncode == 0, f"made-up shards can be read {(made.stderr + job.stderr).strip()[-200:]}")
    torch = ran(sys.executable, os.path.join(HERE, "baselines.py"), "--check", "--device", "cpu", "--precision", "f32")
    if torch.returncode == 3:
        print("  skipped: the baselines' own check, torch cannot be imported here")
    else:
        tell(torch.returncode == 0, f"baselines: sparse is dense {torch.stdout.strip().splitlines()[-1:]}")
    tell(check.limits <= BUDGET_S, f"the limits of all steps add up to {check.limits} s of {BUDGET_S}")
    print(f"\n{len(faults)} faults" if faults else "\nNothing is missing but the card.")
    return 1 if faults else 0


# From the command line to the table


def arguments():
    parser = argparse.ArgumentParser(
        prog="check.sh", description="Checks atomflow on a graphics card and measures it.",
        epilog="Exit codes: 0 every check is fine or skipped, 1 one failed, 64 the command line. Bars that are "
        "missed do not change the exit code.",
    )
    parser.add_argument("--atomflow", help="the program (default: beside this script, else target/release/atomflow)")
    parser.add_argument("--data", help="folder of the shards to learn from (default: data/ beside this script, else jobs/data)")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--out", default="runs/gpu-check", help="where results.json and the logs go")
    parser.add_argument("--only", metavar="WORD,…", help="only steps whose name has one of these words")
    parser.add_argument("--keep", action="store_true", help="keep the runs that were compared")
    parser.add_argument("--dry-run", action="store_true", help="print what would run and check all but the card")
    a = parser.parse_args()
    root = os.path.dirname(os.path.dirname(HERE))
    beside, built = os.path.join(HERE, "atomflow"), os.path.join(root, "target", "release", "atomflow")
    a.atomflow = first(parser, "--atomflow", a.atomflow, beside, beside + ".gz", built)
    shipped = os.path.join(root, "jobs", "data", "smollm2-l15-sample")
    a.data = first(parser, "--data", a.data, os.path.join(HERE, "data"), shipped)
    a.out = os.path.abspath(a.out)
    return a


def first(parser, flag, given, *places):
    for place in [given] if given else places:
        if os.path.exists(place):
            return os.path.abspath(place)
    parser.exit(64, f"check.sh: {given or ' and '.join(places)} not found; name it with {flag}\n")


def unpacked(path, work):
    """The program itself, where pack.sh has compressed it."""
    if not path.endswith(".gz"):
        return path
    target = os.path.join(work, "atomflow")
    with gzip.open(path) as packed, open(target, "wb") as file:
        shutil.copyfileobj(packed, file)
    os.chmod(target, os.stat(target).st_mode | stat.S_IXUSR)
    return target


def steps(c):
    c.step("devices", 15, c.devices, c.a_usable_card)
    c.step("every kernel against its reference", 60, c.verify, c.every_kernel_fine)
    c.step("memory checker", 50, c.memory, c.no_memory_errors)
    c.step("200 steps on the processor", 30, c.on_processor, c.trained)
    for precision in PRECISIONS:
        do = lambda precision=precision: c.curve_on_card(precision)
        judge = lambda ran, precision=precision: c.curve_as_on_processor(precision, ran)
        c.step(f"200 steps on the card, {precision}", 15, do, judge)
    c.step("200 steps on the card, bf16, moments in 8 bits", 15, c.curve_in_bytes, c.curve_as_in_floats)
    c.step("200 steps on all cards", 25, c.on_all_cards, c.curves_as_on_processor)
    c.step("the same run twice", 25, c.again, c.same_bytes)
    c.step("kill -9 and resume", 30, c.killed, c.as_if_never_killed)
    c.step("harvest on card and processor", 30, c.harvest, c.counts_as_on_processor)
    for d, n, ours, theirs, limit in SHAPES:
        for precision, own in ours:
            do = lambda precision=precision: c.bench(d, n, precision)
            judge = lambda ran, precision=precision: c.benched(d, n, precision, ran)
            c.step(f"speed {d}x{n} {precision}", own, do, judge)
        c.step(f"torch {d}x{n} {theirs}", limit, lambda: c.baselines(d, n, theirs), c.baselined)
        if d == 4096:
            c.step("end to end from Parquet", 45, c.stream, c.streamed)


def main():
    a = arguments()
    os.makedirs(a.out, exist_ok=True)
    work = tempfile.mkdtemp(prefix="atomflow-gpu-check-")
    try:
        a.atomflow = unpacked(a.atomflow, work)
        check = Check(a, work)
        steps(check)
        if a.dry_run:
            return dry(check)
        check.found["device"] = a.device
        check.found["date"] = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
        version = subprocess.run([a.atomflow, "--version"], capture_output=True, text=True)
        check.found["atomflow"] = version.stdout.strip()
        results = report.results(check.found, check.steps, round(time.monotonic() - check.began, 1))
        with open(os.path.join(a.out, "results.json"), "w") as file:
            json.dump(results, file, indent=1)
        print(report.table(results))
        print(f"\n{os.path.join(a.out, 'results.json')}")
        return 1 if any(step["status"] == "FAILED" for step in check.steps) else 0
    finally:
        if a.keep:
            print(f"the runs are in {work}", file=sys.stderr)
        else:
            shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
