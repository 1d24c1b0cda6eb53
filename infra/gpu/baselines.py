"""TopK training steps in torch, timed: what the card does for others, beside `atomflow bench card`.

    baselines.py [--d 4096 --n 131072 --k 64 --batch 16384] [--precision bf16] [--which dense,compiled,sparse]
    baselines.py --check                correctness alone: the steps against one another, the kernels against torch

dense      autograd through a dense matrix of codes: encoder product, torch.topk, scatter, decoder product
compiled   the same with torch.compile around the loss, the projection and the normalisation
sparse     the step that OpenAI's sparse_autoencoder and EleutherAI's sparsify made known, written anew: encoder
           product and torch.topk, then Triton kernels that touch k atoms per row, forward and backward

All three learn the same thing: squared error summed over d, mean over rows; the gradient of the decoder
without its part along the atoms; Adam (fused); atoms of unit norm. Weights and moments are f32. Precision is
that of the products: `bf16` multiplies bf16 copies (autocast does the same for dense), `tf32` and `f32` are
torch's own settings. Before anything is timed, the sparse step is checked against the dense one on small
shapes in the same precision; if it fails, nothing is timed and the exit code is 1.

One JSON object a line on standard output. Needs torch; without a card the kernels are replaced by torch
(TRITON_INTERPRET=1 runs the kernels themselves, slowly).
"""
import argparse
import json
import os
import statistics
import sys
import time
from contextlib import nullcontext

try:
    import torch
    from torch.nn import functional as F
except ImportError as error:
    print(json.dumps({"event": "skipped", "reason": f"torch cannot be imported: {error}"}))
    sys.exit(3)

try:
    import triton
    import triton.language as tl
except ImportError:
    triton = None

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"

# A step is the same function of the same numbers in all three; what differs is the order of sums, and in
# low precision what the products are rounded to. Of the norm of a gradient, and of the loss.
TOLERANCE = {"f32": 1e-5, "tf32": 1e-2, "bf16": 5e-2}


# What is learned


class Dictionary(torch.nn.Module):
    """Encoder and decoder, both one row per latent; atoms of unit norm, the encoder begins as the decoder."""

    def __init__(self, d, n, device):
        super().__init__()
        atoms = torch.randn(n, d, device=device, generator=generator(device, 1))
        atoms /= atoms.norm(dim=1, keepdim=True)
        self.W_dec = torch.nn.Parameter(atoms)
        self.W_enc = torch.nn.Parameter(atoms.clone())
        self.b_enc = torch.nn.Parameter(torch.zeros(n, device=device))
        self.b_dec = torch.nn.Parameter(torch.zeros(d, device=device))


def generator(device, seed):
    return torch.Generator(device=device).manual_seed(seed)


def made_up_rows(rows, d, device, seed):
    """Sums of 16 of 2 d directions with noise; mean squared norm 1."""
    draw, directions = generator(device, seed), min(2 * d, 8192)
    atoms = torch.randn(directions, d, device=device, generator=generator(device, 0))
    codes = torch.zeros(rows, directions, device=device)
    active = torch.randint(directions, (rows, 16), device=device, generator=draw)
    codes.scatter_(1, active, torch.rand(rows, 16, device=device, generator=draw) + 0.5)
    x = codes @ atoms + 0.3 * torch.randn(rows, d, device=device, generator=draw)
    return x / x.square().sum(1).mean().sqrt()


def project(gradient, atoms):
    """Takes away what would only change the norm of an atom."""
    gradient -= (gradient * atoms).sum(1, keepdim=True) * atoms


def normalise(atoms):
    atoms /= atoms.norm(dim=1, keepdim=True)


class Step:
    """A step on rows: gradients by the subclass, then what all have in common."""

    def __init__(self, d, n, k, precision, device):
        self.k, self.precision, self.device = k, precision, device
        self.p = Dictionary(d, n, device)
        fused = {"fused": True} if device == "cuda" else {}
        self.adam = torch.optim.Adam(self.p.parameters(), lr=1e-4, betas=(0.9, 0.999), eps=6.25e-10, **fused)
        self.project, self.normalise = project, normalise

    def gradients(self, x):
        """Sets every `.grad` and returns the loss."""
        raise NotImplementedError

    def __call__(self, x):
        loss = self.gradients(x)
        with torch.no_grad():
            self.project(self.p.W_dec.grad, self.p.W_dec)
        self.adam.step()
        with torch.no_grad():
            self.normalise(self.p.W_dec)
        self.adam.zero_grad(set_to_none=True)
        return loss


# Dense


def dense_loss(p, x, k):
    pre = F.linear(x - p.b_dec, p.W_enc, p.b_enc)
    values, latents = pre.topk(k, dim=1, sorted=False)
    codes = torch.zeros_like(pre).scatter(1, latents, values.relu())
    x_hat = codes @ p.W_dec + p.b_dec
    return (x - x_hat).square().sum(1).mean()


class Dense(Step):
    def __init__(self, *shape):
        super().__init__(*shape)
        self.loss = dense_loss

    def gradients(self, x):
        low = torch.autocast(self.device, torch.bfloat16) if self.precision == "bf16" else nullcontext()
        with low:
            loss = self.loss(self.p, x, self.k)
        loss.backward()
        return loss.detach()


class Compiled(Dense):
    def __init__(self, *shape):
        super().__init__(*shape)
        self.loss = torch.compile(dense_loss, dynamic=False)
        self.project = torch.compile(project, dynamic=False)
        self.normalise = torch.compile(normalise, dynamic=False)


# Sparse: kernels


if triton:

    @triton.jit
    def decode_kernel(values, latents, atoms, out, k, d, BLOCK: tl.constexpr):
        """out[row] = sum over j of values[row, j] * atoms[latents[row, j]]."""
        row = tl.program_id(0).to(tl.int64)
        column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
        inside = column < d
        total = tl.zeros([BLOCK], tl.float32)
        for j in range(k):
            latent = tl.load(latents + row * k + j).to(tl.int64)
            value = tl.load(values + row * k + j)
            total += value * tl.load(atoms + latent * d + column, mask=inside, other=0.0).to(tl.float32)
        tl.store(out + row * d + column, total, mask=inside)

    @triton.jit
    def gather_dot_kernel(rows, latents, atoms, out, k, d, BLOCK: tl.constexpr):
        """out[row, j] = <rows[row], atoms[latents[row, j]]>; a row stays in registers for all its atoms."""
        row = tl.program_id(0).to(tl.int64)
        column = tl.arange(0, BLOCK)
        inside = column < d
        x = tl.load(rows + row * d + column, mask=inside, other=0.0)
        for j in range(k):
            latent = tl.load(latents + row * k + j).to(tl.int64)
            atom = tl.load(atoms + latent * d + column, mask=inside, other=0.0).to(tl.float32)
            tl.store(out + row * k + j, tl.sum(x * atom))

    @triton.jit
    def scatter_kernel(
        order, latents, coefficients, rows, out, pairs, k, d, PAIRS: tl.constexpr, BLOCK: tl.constexpr
    ):
        """out[latent] += coefficient * rows[row] over pairs sorted by latent.

        A program takes PAIRS neighbours of the sorted list and writes once per latent it meets, so that
        frequent latents are shared by many programs; the writes are atomic, the order of sums is not fixed.
        """
        first = tl.program_id(0) * PAIRS
        column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
        inside = column < d
        here = tl.load(latents + first).to(tl.int64)
        total = tl.zeros([BLOCK], tl.float32)
        for at in range(first, tl.minimum(first + PAIRS, pairs)):
            latent = tl.load(latents + at).to(tl.int64)
            if latent != here:
                tl.atomic_add(out + here * d + column, total, mask=inside)
                total = tl.zeros([BLOCK], tl.float32)
                here = latent
            pair = tl.load(order + at)
            row = (pair // k).to(tl.int64)
            coefficient = tl.load(coefficients + pair)
            total += coefficient * tl.load(rows + row * d + column, mask=inside, other=0.0)
        tl.atomic_add(out + here * d + column, total, mask=inside)


def decode(values, latents, atoms, out=None):
    (rows, k), d = values.shape, atoms.shape[1]
    out = values.new_empty(rows, d) if out is None else out
    block = min(triton.next_power_of_2(d), 4096)
    decode_kernel[(rows, triton.cdiv(d, block))](
        values, latents, atoms, out, k, d, BLOCK=block, num_warps=8
    )
    return out


def gather_dot(rows, latents, atoms, out=None):
    (count, k), d = latents.shape, atoms.shape[1]
    out = rows.new_empty(count, k) if out is None else out
    block = triton.next_power_of_2(d)
    gather_dot_kernel[(count,)](rows, latents, atoms, out, k, d, BLOCK=block, num_warps=8)
    return out


def scatter(order, sorted_latents, coefficients, rows, n):
    (pairs,), k, d = order.shape, coefficients.shape[1], rows.shape[1]
    out, block, share = rows.new_zeros(n, d), min(triton.next_power_of_2(d), 1024), 128
    grid = (triton.cdiv(pairs, share), triton.cdiv(d, block))
    scatter_kernel[grid](
        order, sorted_latents, coefficients, rows, out, pairs, k, d, PAIRS=share, BLOCK=block, num_warps=4
    )
    return out


# Sparse: the same in torch, for the check and for where there is no card


def plain_decode(values, latents, atoms, out=None):
    del out
    return torch.einsum("bk,bkd->bd", values, atoms[latents.long()].float())


def plain_gather_dot(rows, latents, atoms, out=None):
    del out
    return torch.einsum("bd,bkd->bk", rows, atoms[latents.long()].float())


def plain_scatter(order, sorted_latents, coefficients, rows, n):
    scaled = coefficients.flatten()[order.long(), None] * rows[order.long() // coefficients.shape[1]]
    return rows.new_zeros(n, rows.shape[1]).index_add_(0, sorted_latents.long(), scaled)


def kernels(device):
    """decode, gather_dot and scatter for a device."""
    if triton and (device == "cuda" or INTERPRETED):
        return decode, gather_dot, scatter
    return plain_decode, plain_gather_dot, plain_scatter


# Sparse: the step


class Sparse(Step):
    def __init__(self, *shape):
        super().__init__(*shape)
        self.decode, self.gather_dot, self.scatter = kernels(self.device)

    def low(self, tensor):
        return tensor.bfloat16() if self.precision == "bf16" else tensor

    @torch.no_grad()
    def gradients(self, x):
        p, n = self.p, len(self.p.b_enc)
        atoms, centred = self.low(p.W_dec), x - p.b_dec
        pre = F.linear(self.low(centred), self.low(p.W_enc), self.low(p.b_enc))
        values, latents = pre.topk(self.k, dim=1, sorted=False)
        del pre
        values, latents = values.relu().float(), latents.int()
        e = self.decode(values, latents, atoms) + p.b_dec - x
        loss = e.square().sum(1).mean()
        g = e * (2 / len(x))
        slopes = self.gather_dot(g, latents, atoms) * (values > 0)
        sorted_latents, order = latents.flatten().sort(stable=True)
        order = order.int()
        p.W_dec.grad = self.scatter(order, sorted_latents, values, g, n)
        p.W_enc.grad = self.scatter(order, sorted_latents, slopes, centred, n)
        p.b_enc.grad = torch.zeros_like(p.b_enc).index_add_(0, latents.flatten(), slopes.flatten())
        # The bias of the decoder is taken from the rows before they are encoded, too.
        p.b_dec.grad = g.sum(0) - p.b_enc.grad @ p.W_enc
        return loss


# Correctness


def distance(one, other):
    """Of the norm of `other`; infinite where a number is not finite."""
    one, other = one.float(), other.float()
    far = ((one - other).norm() / other.norm().clamp_min(1e-30)).item()
    return far if far == far else float("inf")


def check_kernels(device):
    """Kernels against torch at odd shapes, their outputs poisoned before they write."""
    names = ("decode", "gather_dot", "scatter")
    for d, n, k, rows in [(1, 1, 1, 1), (100, 517, 5, 67), (96, 40, 8, 130), (257, 300, 33, 31)]:
        draw = generator(device, d)
        x, atoms = (torch.randn(c, d, device=device, generator=draw) for c in (rows, n))
        values = torch.randn(rows, k, device=device, generator=draw)
        # Half of all pairs fall on a few latents: long lists, cut by the borders of programs.
        latents = torch.randint(n, (rows, k), device=device, generator=draw, dtype=torch.int32)
        latents[::2] %= max(1, n // 100)
        sorted_latents, order = latents.flatten().sort(stable=True)
        order = order.int()
        nan = [torch.full(s, float("nan"), device=device) for s in ((rows, d), (rows, k))]

        def run(decode, gather_dot, scatter):
            return (
                decode(values, latents, atoms, out=nan[0]),
                gather_dot(x, latents, atoms, out=nan[1]),
                scatter(order, sorted_latents, values, x, n),
            )

        expected = run(plain_decode, plain_gather_dot, plain_scatter)
        for name, one, other in zip(names, run(*kernels(device)), expected):
            yield f"{name} {d}x{n} k {k}, {rows} rows", distance(one, other), 1e-5


def check_steps(device, precision):
    """The sparse step against the dense one: gradients of the first step, losses of twenty."""
    for d, n, k, rows in [(96, 768, 8, 256), (100, 517, 5, 67)]:
        shape = (d, n, k, precision, device)
        dense, sparse = Dense(*shape), Sparse(*shape)
        x = made_up_rows(rows, d, device, seed=2)
        one, other = sparse.gradients(x), dense.gradients(x)
        what = f"step {d}x{n} k {k}, {rows} rows, {precision}"
        yield f"{what}: loss", distance(one, other), TOLERANCE[precision]
        for (name, theirs), ours in zip(dense.p.named_parameters(), sparse.p.parameters()):
            yield f"{what}: gradient of {name}", distance(ours.grad, theirs.grad), TOLERANCE[precision]
        for trained in (dense, sparse):
            trained.adam.zero_grad(set_to_none=True)
        for _ in range(20):
            one, other = sparse(x), dense(x)
        yield f"{what}: loss after 20", distance(one, other), 10 * TOLERANCE[precision]


def check(device, precision):
    """Whether everything is as close as it must be; prints what is not, and the worst of the rest."""
    how = "torch in the place of kernels" if kernels(device)[0] is plain_decode else "kernels"
    fine, worst = True, 0.0
    results = list(check_kernels(device)) + list(check_steps(device, precision))
    for name, far, tolerance in results:
        worst = max(worst, far / tolerance)
        if not far <= tolerance:
            fine = False
            tell(event="check", name=name, distance=far, tolerance=tolerance, fine=False)
    tell(event="checked", precision=precision, how=how, checks=len(results), worst_of_tolerance=worst, fine=fine)
    return fine


# Time


def now(device):
    if device == "cpu":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def between(one, other, device):
    if device == "cpu":
        return other - one
    other.synchronize()
    return one.elapsed_time(other) / 1e3


STEPS = {"dense": Dense, "compiled": Compiled, "sparse": Sparse}


def measure(which, a):
    """Median seconds of a step; steps follow one another without waiting, as in training."""
    if a.device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    batches = [made_up_rows(a.batch, a.d, a.device, seed=3 + i) for i in range(2)]
    step = STEPS[which](a.d, a.n, a.k, a.precision, a.device)
    began = time.perf_counter()
    losses = [step(batches[i % 2]) for i in range(a.warmup)]
    float(losses[-1])
    warm_s, marks = time.perf_counter() - began, [now(a.device)]
    for i in range(a.steps):
        losses.append(step(batches[i % 2]))
        marks.append(now(a.device))
    times = [between(one, other, a.device) for one, other in zip(marks, marks[1:])]
    seconds = statistics.median(times)
    memory = {"peak_memory_bytes": torch.cuda.max_memory_allocated()} if a.device == "cuda" else {}
    tell(
        event="baseline", name=f"torch_{which}", d=a.d, n=a.n, k=a.k, batch=a.batch, precision=a.precision,
        step_s=seconds, best_step_s=min(times), tokens_per_s=a.batch / seconds, steps=a.steps, warm_s=warm_s,
        first_loss=float(losses[0]), last_loss=float(losses[-1]), **memory,
    )


def tell(**line):
    print(json.dumps(line), flush=True)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--d", type=int, default=4096, help="width of the rows")
    parser.add_argument("--n", type=int, default=131_072, help="latents")
    parser.add_argument("--k", type=int, default=64, help="latents kept per row")
    parser.add_argument("--batch", type=int, default=16_384, help="rows of a step")
    parser.add_argument("--precision", choices=tuple(TOLERANCE), default="bf16")
    parser.add_argument("--which", default="sparse,compiled,dense", help="in this order: the last may be cut off by a time limit")
    parser.add_argument("--steps", type=int, default=10, help="steps that are timed")
    parser.add_argument("--warmup", type=int, default=3, help="steps before them; the first one compiles")
    parser.add_argument("--device", default=None, help="cuda where there is one, else cpu")
    parser.add_argument("--check", action="store_true", help="correctness alone")
    a = parser.parse_args()
    if unknown := set(a.which.split(",")) - set(STEPS):
        parser.error(f"there is no step {', '.join(sorted(unknown))}; there are {', '.join(STEPS)}")
    return a


def main():
    a = arguments()
    a.device = a.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if a.device.startswith("cuda"):
        torch.cuda.set_device(torch.device(a.device))
        a.device = "cuda"
    torch.set_float32_matmul_precision("high" if a.precision == "tf32" else "highest")
    card = torch.cuda.get_device_name() if a.device == "cuda" else "cpu"
    tell(event="started", torch=torch.__version__, triton=getattr(triton, "__version__", None), card=card)
    if not check(a.device, a.precision):
        return 1
    if a.check:
        return 0
    if a.device == "cuda" and not triton:
        tell(event="failed", name="torch_sparse", reason="there is no Triton beside this torch")
        a.which = ",".join(which for which in a.which.split(",") if which != "sparse")
    for which in filter(None, a.which.split(",")):
        try:
            measure(which, a)
        except Exception as error:  # one that cannot be had here must not hide the others
            reason = (str(error).strip().splitlines() or [""])[0][:300]
            tell(event="failed", name=f"torch_{which}", reason=f"{type(error).__name__}: {reason}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
