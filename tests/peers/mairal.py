"""Online dictionary learning: SPAMS, scikit-learn and atomflow in turns on the same rows, one table.

    python tests/peers/mairal.py --atomflow target/release/atomflow --data DIR [--n-latents 1024] [--lambda 0.1]

DIR holds train-*.parquet and test-*.parquet with a column activation. Needs `spams-bin` and `scikit-learn`
beside the packages of run.py. All peers get the rows as atomflow's learner sees them: the mean of the first
rows subtracted, root mean square norm 1. Every dictionary is judged by the objective
½‖x − αD‖² + λ‖α‖₁ on held-out rows, its codes by the same solver (SPAMS' LARS). Peers hold all rows in memory
and only their learning is timed; atomflow is timed from process start to the last step. tokens/s of wall time
and of CPU time (times --threads): the second holds on a machine that is busy with something else.
scikit-learn is timed on a few mini-batches: it is two orders slower. Its objective is what those give.
"""
import argparse
import json
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import rows as shards


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--atomflow", help="the program; left out: the peers alone")
    parser.add_argument("--data", required=True)
    parser.add_argument("--n-latents", type=int, default=1024)
    parser.add_argument("--lambda", dest="weight", type=float, default=0.1)
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--tokens", type=int, default=400_000)
    parser.add_argument("--sklearn-rows", type=int, default=2048)
    parser.add_argument("--heldout", type=int, default=8192)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=2)
    return parser.parse_args()


def timed(work, who=resource.RUSAGE_SELF):
    """What `work` returns, its wall and its CPU seconds."""
    cpu = lambda: sum(resource.getrusage(who)[:2])  # noqa: E731
    wall, used = time.perf_counter(), cpu()
    out = work()
    return out, time.perf_counter() - wall, cpu() - used


def start(x, n):
    """The same atoms for every peer: random rows of norm 1."""
    atoms = x[np.random.default_rng(0).choice(len(x), n, replace=False)].copy()
    return atoms / np.linalg.norm(atoms, axis=1, keepdims=True)


def spams_atoms(a, x):
    import spams

    steps = len(x) // a.batch
    rows, atoms = np.asfortranarray(x[: steps * a.batch].T), np.asfortranarray(start(x, a.n_latents).T)
    learn = lambda: spams.trainDL(  # noqa: E731
        rows, D=atoms, K=a.n_latents, lambda1=a.weight, mode=2, iter=steps, batchsize=a.batch,
        numThreads=a.threads, verbose=False,
    )
    learned, wall, cpu = timed(learn)
    return {"atoms": np.asarray(learned).T, "tokens": steps * a.batch, "wall": wall, "cpu": cpu}


def sklearn_atoms(a, x):
    import warnings

    from sklearn.decomposition import MiniBatchDictionaryLearning

    warnings.simplefilter("ignore")  # duality gaps that float64 does not reach either
    atoms = start(x, a.n_latents).astype(np.float64)
    x = x[: a.sklearn_rows].astype(np.float64)  # in float32 every row runs into max_iter
    learner = MiniBatchDictionaryLearning(
        n_components=a.n_latents, alpha=a.weight, dict_init=atoms, fit_algorithm="cd",
        shuffle=False, n_jobs=a.threads, random_state=0,
    )
    batch = min(a.batch, 512)

    def learn():
        for first in range(0, a.sklearn_rows, batch):
            learner.partial_fit(x[first : first + batch])

    _, wall, _ = timed(learn)
    # Its workers are processes of their own: CPU seconds are not told.
    atoms = learner.components_.astype(np.float32)
    return {"atoms": atoms, "tokens": a.sklearn_rows, "wall": wall, "cpu": float("nan")}


def atomflow_atoms(a, folder):
    """Our job on the shards; the exported atoms. The harvest after training is not timed, but its CPU
    seconds cannot be told apart: CPU tokens/s are a lower bound."""
    from safetensors.numpy import load_file

    sets = {
        "source.url": json.dumps(f"{a.data}/train-*.parquet"), "plan.batch_rows": a.batch,
        "learner.n_latents": a.n_latents, "learner.lambda": a.weight, "runtime.threads": a.threads,
    }
    spec = pathlib.Path(__file__).with_name("mairal.toml")
    command = [a.atomflow, "--json", "run", str(spec), "--out", folder]
    command += [word for key, value in sets.items() for word in ("--set", f"{key}={value}")]

    def run():
        began = trained = time.perf_counter()
        process, tokens, last = subprocess.Popen(command, stdout=subprocess.PIPE, text=True), 0, {}
        for line in process.stdout:
            last = json.loads(line)
            if last.get("event") == "train":
                trained, tokens = time.perf_counter(), last["tokens"]
        assert process.wait() == 0 and last.get("status") == "done", last
        return tokens, trained - began

    (tokens, wall), _, cpu = timed(run, resource.RUSAGE_CHILDREN)
    weights = load_file(f"{folder}/dictionary/sae_weights.safetensors")
    return {"atoms": weights["W_dec"], "tokens": tokens, "wall": wall, "cpu": cpu, "b_dec": weights["b_dec"]}


def objective(a, atoms, x):
    """Mean of ½‖x − αD‖² + λ‖α‖₁ and L0 over the rows `x`."""
    import spams

    rows, columns = np.asfortranarray(x.T), np.asfortranarray(atoms.T.astype(np.float32))
    codes = spams.lasso(rows, D=columns, lambda1=a.weight, mode=2, numThreads=a.threads)
    left = rows - columns @ codes
    return 0.5 * float(np.square(left).sum(0).mean()) + a.weight * abs(codes).sum() / len(x), codes.nnz / len(x)


def main():
    a = arguments()
    train = shards.rows(a.data, "train", a.tokens)["activation"].astype(np.float32)
    test = shards.rows(a.data, "test", a.heldout)["activation"].astype(np.float32)
    mean = train[:32_768].mean(0)
    scale = 1 / np.sqrt(np.square(train[:32_768] - mean).sum(1).mean())
    heldout = lambda centre: (test - centre) * scale  # noqa: E731
    x = shards.shuffled((train - mean) * scale)
    tools = {"spams": lambda _: spams_atoms(a, x), "scikit-learn": lambda _: sklearn_atoms(a, x)}
    if a.atomflow:
        tools["atomflow"] = lambda folder: atomflow_atoms(a, folder)
    turns = {name: [] for name in tools}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(a.repeat):
            for name, learn in tools.items():
                turns[name].append(learn(f"{folder}/run-{turn}"))
    print("| tool | tokens/s | tokens per CPU-second x threads | held-out objective | L0 |\n|---|---|---|---|---|")
    for name, runs in turns.items():
        wall = max(run["tokens"] / run["wall"] for run in runs)
        cpu = max(a.threads * run["tokens"] / run["cpu"] for run in runs)
        value, l0 = objective(a, runs[0]["atoms"], heldout(runs[0].get("b_dec", mean)))
        print(f"| {name} | {wall:,.0f} | {cpu:,.0f} | {value:.5f} | {l0:.2f} |", flush=True)


if __name__ == "__main__":
    shards.threads(next((int(sys.argv[i + 1]) for i, word in enumerate(sys.argv) if word == "--threads"), 2))
    import numpy as np

    main()
