"""What check.py found, as one object for programs and one table for people; bars and floors are computed here."""
import shutil
import subprocess

# Published rates of an H200-class card, for the record beside what was measured: dense, without sparsity.
PUBLISHED = {"bf16_tflops": 989, "tf32_tflops": 495, "f32_tflops": 67, "memory_gb_per_s": 4800}


def results(found, steps, seconds):
    """Everything, with the machine it was found on."""
    return {
        "atomflow": found["atomflow"], "date": found["date"], "device": found["device"], **machine(found),
        "seconds": seconds, "steps": steps, "checks": found.get("checks", []), "curves": found.get("curves", {}),
        "harvest": found.get("harvest", {}), "bench": found["bench"], "baselines": found["baselines"],
        "end_to_end": found["end_to_end"], "bars": bars(found), "published": PUBLISHED,
    }


def machine(found):
    card = found.get("card", {})
    asked = output("nvidia-smi", "--query-gpu=name,driver_version,clocks.max.sm,power.limit", "--format=csv,noheader")
    toolkit = [line for line in output("nvcc", "--version").splitlines() if "release" in line]
    return {
        "card": card.get("model"), "memory_bytes": card.get("memory_bytes"), "driver": card.get("driver"),
        "nvidia_smi": asked.strip().splitlines(), "toolkit": toolkit[0].strip() if toolkit else None,
    }


def output(*command):
    """What a program prints; nothing where there is none."""
    if not shutil.which(command[0]):
        return ""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10).stdout
    except subprocess.TimeoutExpired:
        return ""


# Bars: (figure, bar, measured or None, whether it is reached)


def bars(found):
    wide = ours(found, 4096, "bf16")
    step, encode = wide.get("step_s"), wide.get("encode_s")
    compiled, dense, sparse = (theirs(found, 4096, f"torch_{which}") for which in ("compiled", "dense", "sparse"))
    stream = found["end_to_end"] or {}
    return [
        bar("encode + select, bf16, of the measured matrix rate", ratio(wide.get("encode_tflops"), wide.get("matmul_tflops")), 0.60),
        bar("whole step / encode + select", ratio(step, encode), 1.35, at_most=True),
        bar("torch dense autograd, compiled / our step", ratio(compiled, step), 4.0),
        bar("torch dense autograd, eager / our step", ratio(dense, step), None),
        bar("torch with Triton kernels / our step", ratio(sparse, step), 1.3),
        bar("end to end from Parquet, d 2048: card busy", stream.get("busy"), 0.90),
    ]


def bar(figure, measured, limit, at_most=False):
    reached = None
    if measured is not None and limit is not None:
        reached = measured <= limit if at_most else measured >= limit
    text = "" if limit is None else f"{'≤' if at_most else '≥'} {limit:g}"
    return {"figure": figure, "bar": text, "measured": measured, "reached": reached}


def ours(found, d, precision):
    return next((b for b in found["bench"] if b["d"] == d and b["precision"] == precision), {})


def theirs(found, d, name):
    return next((b["step_s"] for b in found["baselines"] if b["d"] == d and b["name"] == name), None)


def ratio(one, other):
    return one / other if one is not None and other else None


# The table


def table(r):
    parts = [head(r), checks(r), speed(r), kernels(r), against(r)]
    return "\n\n".join(part for part in parts if part)


def head(r):
    return f"{r['atomflow']} on {r['card'] or r['device']}, driver {r['driver']}, {r['toolkit'] or 'no nvcc'}, {r['date']}, {r['seconds']:.0f} s"


def checks(r):
    rows = [["step", "", "time", "limit", "what was found"]]
    rows += [[s["name"], s["status"], f"{s['seconds']:.1f} s", f"{s['limit_s']} s", s["says"]] for s in r["steps"]]
    return aligned(rows)


def speed(r):
    rows = [["d x n, precision", "who", "encode", "step", "tokens/s", "TFLOP/s", "of the card", "memory"]]
    for b in r["bench"]:
        of_card = ratio(b["encode_tflops"], b["matmul_tflops"])
        rows.append([
            f"{b['d']}x{b['n']} {b['precision']}", "atomflow", ms(b["encode_s"]), ms(b["step_s"]), rate(b["tokens_per_s"]),
            f"{b['encode_tflops']:.0f} of {b['matmul_tflops']:.0f}", "" if of_card is None else f"{100 * of_card:.0f} %", "",
        ])
        for t in r["baselines"]:
            if (t["d"], t["n"], t["precision"]) == (b["d"], b["n"], b["precision"]):
                memory = f"{t['peak_memory_bytes'] / 1e9:.0f} GB" if "peak_memory_bytes" in t else ""
                rows.append(["", t["name"].replace("_", " "), "", ms(t["step_s"]), rate(t["tokens_per_s"]), "", "", memory])
    if len(rows) == 1:
        return ""
    copies = [b["copy_gb_per_s"] for b in r["bench"] if b.get("copy_gb_per_s")]
    ceiling = f"measured copy bandwidth {max(copies):.0f} GB/s; 16,384 rows a step, k 64" if copies else ""
    return f"{aligned(rows)}\n{ceiling}"


def kernels(r):
    wide = ours(r, 4096, "bf16")
    rows = [["kernel, 4096x131072 bf16", "time", "rate", "floor", "of the floor"]]
    for k in wide.get("kernels") or []:
        done = f"{k['tflops']:.0f} TFLOP/s" if k.get("tflops") else f"{k['gb_per_s']:.0f} GB/s" if k.get("gb_per_s") else ""
        floor = k.get("floor_s")
        rows.append([k["name"], ms(k["s"]), done, ms(floor) if floor else "", f"{k['s'] / floor:.2f} x" if floor else ""])
    return aligned(rows) if len(rows) > 1 else ""


def against(r):
    verdict = {True: "reached", False: "MISSED", None: ""}
    rows = [["figure", "bar", "measured", ""]]
    for b in r["bars"]:
        measured = "not measured" if b["measured"] is None else f"{b['measured']:.2f}"
        rows.append([b["figure"], b["bar"], measured, verdict[b["reached"]]])
    return aligned(rows)


def ms(seconds):
    return f"{seconds * 1e3:.2f} ms"


def rate(tokens):
    return f"{tokens / 1e6:.3f} M"


def aligned(rows):
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]) - 1)]
    return "\n".join("  ".join([c.ljust(w) for c, w in zip(row, widths)] + row[-1:]).rstrip() for row in rows)
