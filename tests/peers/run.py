"""Peers and atomflow in turns on the same shards, in one run: a table of ratios with quality beside speed.

    python tests/peers/run.py train   --atomflow target/release/atomflow --data DIR [--n-latents 3072] [--repeat 3]
    python tests/peers/run.py harvest --atomflow target/release/atomflow --data DIR [--tokens 200000]

DIR holds train-*.parquet and test-*.parquet with columns activation, token_id, seq_id, pos. Needs the
packages of tests/peers/requirements.txt. Peers hold all rows in memory, and their tokens/s are those of
their steps alone; `whole` is from process start until the last step, imports, reading and shuffling included.
atomflow is only ever timed from process start, reading Parquet included. sparsify and overcomplete train
without an auxiliary loss, and so do we but for --aux-k. Run it on an idle machine: every tool is measured
`repeat` times in turns, the best of each is compared.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time

import rows as shards

HERE = pathlib.Path(__file__).parent


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("train", "harvest"))
    parser.add_argument("--atomflow", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--n-latents", type=int, default=3072)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=400_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--lr", type=float, default=4e-3)
    parser.add_argument("--peers", default="sparsify,sparsify-signum,saelens,dictionary_learning,overcomplete")
    parser.add_argument("--aux-k", action="store_true", help="with our auxiliary loss (SAELens and dictionary_learning have one)")
    parser.add_argument("--steps", type=int, default=25, help="steps a peer is timed for after its first turn")
    return parser.parse_args()


def peer(script, *words):
    """The JSON line of one script, or what went wrong."""
    command = [sys.executable, str(HERE / script), *map(str, words)]
    ran = subprocess.run(command, capture_output=True, text=True)
    for line in ran.stdout.splitlines():
        if line.startswith("JSON "):
            return json.loads(line[5:])
    return {"error": (ran.stderr.strip().splitlines() or ["no output"])[-1][:200]}


def atomflow(a, out):
    """Runs our job; seconds until the last training step, and from there to the end."""
    sets = {
        "source.url": json.dumps(f"{a.data}/train-*.parquet"),
        "learner.n_latents": a.n_latents,
        "learner.k": a.k,
        "learner.schedule.lr": a.lr,
        "learner.aux_coefficient": 1 / 32 if a.aux_k else 0,
        "runtime.threads": a.threads,
    }
    command = [a.atomflow, "--json", "run", str(HERE / "job.toml"), "--out", out]
    for key, value in sets.items():
        command += ["--set", f"{key}={value}"]
    began = time.perf_counter()
    trained = began
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        event = json.loads(line)
        if event.get("event") == "train":
            trained, tokens = time.perf_counter(), event["tokens"]
        if event.get("status") == "error":
            sys.exit(line)
        last = event
    ended = time.perf_counter()
    assert process.wait() == 0 and last["status"] == "done", last
    train_s, after_s = trained - began, ended - trained
    return {"train_tokens_per_s": tokens / train_s, "after_tokens_per_s": tokens / after_s, "tokens": tokens}


def quality(a, out):
    """Held-out figures of our exported dictionary, scored as the peers are."""
    import numpy as np
    from safetensors.numpy import load_file

    weights = load_file(f"{out}/dictionary/sae_weights.safetensors")

    def encode(x):
        pre = (x - weights["b_dec"]) @ weights["W_enc"] + weights["b_enc"]
        kept = np.argpartition(-pre, a.k, axis=1)[:, : a.k]
        codes = np.zeros_like(pre)
        np.put_along_axis(codes, kept, np.maximum(np.take_along_axis(pre, kept, 1), 0), 1)
        return codes

    heldout = shards.rows(a.data, "test")["activation"]
    return shards.score(heldout, encode, lambda codes: codes @ weights["W_dec"] + weights["b_dec"])


def best(runs, key):
    return max((run[key] for run in runs if key in run), default=float("nan"))


def train(a):
    names = [name for name in a.peers.split(",") if name]
    turns = {name: [] for name in [*names, "atomflow"]}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(a.repeat):
            for name in names:
                words = [name, "--data", a.data, "--n-latents", a.n_latents, "--k", a.k]
                words += ["--tokens", a.tokens, "--threads", a.threads]
                # Quality once, from a whole pass; later turns only time steps.
                words += [] if turn == 0 else ["--steps", a.steps]
                turns[name].append(peer("train.py", *words))
                print(json.dumps(turns[name][-1]), file=sys.stderr)
            out = f"{folder}/run-{turn}"
            turns["atomflow"].append(atomflow(a, out))
            print(json.dumps(turns["atomflow"][-1]), file=sys.stderr)
        ours = quality(a, f"{folder}/run-0")
    speed = best(turns["atomflow"], "train_tokens_per_s")
    print("| tool | tokens/s | atomflow is faster by | whole | faster by | held-out FVU | L0 | silent latents |")
    print("|---|---|---|---|---|---|---|---|")
    for name in names:
        runs, rate, whole = turns[name], best(turns[name], "tokens_per_s"), best(turns[name], "whole_tokens_per_s")
        first = runs[0]
        if "error" in first:
            print(f"| {name} | failed: {first['error']} | | | | | | |")
            continue
        speeds = f"{rate:,.0f} | {speed / rate:.2f} x | {whole:,.0f} | {speed / whole:.2f} x"
        print(f"| {name} | {speeds} | {first['fvu']:.4f} | {first['l0']:.1f} | {first['silent']} |")
    print(f"| atomflow | | | {speed:,.0f} | | {ours['fvu']:.4f} | {ours['l0']:.1f} | {ours['silent']} |")


def harvest(a):
    turns = {"torch": [], "delphi": [], "atomflow": []}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(a.repeat):
            out = f"{folder}/run-{turn}"
            turns["atomflow"].append(atomflow(a, out))
            for way in ("torch", "delphi"):
                words = [way, "--data", a.data, "--dictionary", f"{out}/dictionary", "--tokens", a.tokens]
                turns[way].append(peer("after.py", *words, "--threads", a.threads))
            print(json.dumps({name: runs[-1] for name, runs in turns.items()}), file=sys.stderr)
    speed = best(turns["atomflow"], "after_tokens_per_s")
    print("| after training | tokens/s | atomflow is faster by | whole | faster by |\n|---|---|---|---|---|")
    for way in ("torch", "delphi"):
        rate, whole = (best(turns[way], key) for key in ("tokens_per_s", "whole_tokens_per_s"))
        speeds = f"{rate:,.0f} | {speed / rate:.2f} x | {whole:,.0f} | {speed / whole:.2f} x"
        print(f"| {way} | {speeds} |" if rate == rate else f"| {way} | failed: {turns[way][0]} | | | |")
    print(f"| atomflow | | | {speed:,.0f} | |")


if __name__ == "__main__":
    arguments = arguments()
    {"train": train, "harvest": harvest}[arguments.what](arguments)
