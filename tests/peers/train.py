"""Trains one peer's TopK dictionary on rows in memory, with the peer's own step and defaults.

train.py PEER --data DIR --n-latents 3072 --k 32 [--batch 4096] [--tokens N] [--threads 2]

PEER: sparsify, sparsify-signum, saelens, dictionary_learning, overcomplete. Prints one line of JSON:
tokens/s (median of the steps after the first five), tokens/s of the whole process up to its last step
(imports, loading and shuffling included, as it is for us), CPU seconds per million tokens, peak memory,
held-out quality on DIR/test-*.parquet.
"""
import argparse
import os
import sys
import time

import rows as shards


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer", choices=sorted(PEERS))
    parser.add_argument("--data", required=True)
    parser.add_argument("--n-latents", type=int, default=3072)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--tokens", type=int, default=2_000_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=0, help="time this many steps only, without quality")
    return parser.parse_args()


class Peer:
    """step(x), encode(x) -> dense codes, decode(codes) -> x_hat, finish(); tensors in and out."""

    def finish(self):
        pass


class Sparsify(Peer):
    """SparseCoder and the per-step work of sparsify/trainer.py, whose Trainer wants a live model."""

    signum = False

    def __init__(self, d, a, steps):
        from sparsify import SparseCoder, SparseCoderConfig

        self.torch, self.first, self.n = __import__("torch"), True, a.n_latents
        self.model = SparseCoder(d, SparseCoderConfig(num_latents=a.n_latents, k=a.k))
        self.silent_for = self.torch.zeros(a.n_latents, dtype=self.torch.long)
        self.schedule = None
        if self.signum:  # the library's default optimizer
            from schedulefree import ScheduleFreeWrapper
            from sparsify.sign_sgd import SignSGD

            rate = 5e-3 / (a.n_latents / 2**14) ** 0.5
            groups = [{"params": self.model.parameters(), "lr": rate}]
            self.optimizer = ScheduleFreeWrapper(SignSGD(groups), momentum=0.95)
            self.optimizer.train()
        else:
            from transformers import get_linear_schedule_with_warmup

            rate = 2e-4 / (a.n_latents / 2**14) ** 0.5
            self.optimizer = self.torch.optim.Adam(self.model.parameters(), lr=rate)
            self.schedule = get_linear_schedule_with_warmup(self.optimizer, max(1, steps // 20), steps)

    def step(self, x):
        if self.first:
            self.model.b_dec.data, self.first = x.mean(0), False
        self.model.set_decoder_norm_to_unit_norm()
        out = self.model(x, total_variance=(x - x.mean(0)).pow(2).sum())
        fired = self.torch.zeros(self.n, dtype=self.torch.bool)
        fired[out.latent_indices.flatten()] = True
        out.fvu.backward()
        self.model.remove_gradient_parallel_to_decoder_directions()
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.schedule:
            self.schedule.step()
        self.silent_for.add_(len(x))
        self.silent_for[fired] = 0

    def encode(self, x):
        out = self.model.encode(x)
        return self.torch.zeros_like(out.pre_acts).scatter_(1, out.top_indices, out.top_acts)

    def decode(self, codes):
        return codes @ self.model.W_dec + self.model.b_dec

    def finish(self):
        if self.signum:
            self.optimizer.eval()


class SparsifySignum(Sparsify):
    signum = True


class SaeLens(Peer):
    """SAETrainer.step with the library's defaults (lr 3e-4 constant, auxiliary coefficient 1)."""

    def __init__(self, d, a, steps):
        from sae_lens.config import SAETrainerConfig
        from sae_lens.saes.topk_sae import TopKTrainingSAE, TopKTrainingSAEConfig
        from sae_lens.training.sae_trainer import SAETrainer

        self.model = TopKTrainingSAE(TopKTrainingSAEConfig(d_in=d, d_sae=a.n_latents, k=a.k))
        config = SAETrainerConfig(
            total_training_samples=a.tokens, train_batch_size_samples=a.batch, lr_end=3e-5
        )
        self.trainer = SAETrainer(config, self.model, iter(()))

    def step(self, x):
        self.trainer.step(x)
        self.trainer.n_training_steps += 1

    def encode(self, x):
        codes = self.model.encode(x)
        return codes.to_dense() if codes.is_sparse else codes

    def decode(self, codes):
        return self.model.decode(codes)

    def finish(self):
        self.model.eval()


class DictionaryLearning(Peer):
    """TopKTrainer.update with its own learning rate; warm-up 5 % of the steps instead of 1000."""

    def __init__(self, d, a, steps):
        from dictionary_learning.trainers.top_k import TopKTrainer

        self.trainer = TopKTrainer(
            steps=steps,
            activation_dim=d,
            dict_size=a.n_latents,
            k=a.k,
            layer=0,
            lm_name="shards",
            device="cpu",
            seed=0,
            warmup_steps=max(1, steps // 20),
            threshold_start_step=max(1, steps // 4),
        )
        self.done = 0

    def step(self, x):
        self.trainer.update(self.done, x)
        self.done += 1

    def encode(self, x):
        return self.trainer.ae.encode(x, use_threshold=False)

    def decode(self, codes):
        return self.trainer.ae.decode(codes)


class Overcomplete(Peer):
    """train_sae(monitoring=0) step by step, default encoder (linear, batch norm), Adam lr 5e-4 (its README)."""

    def __init__(self, d, a, steps):
        import torch
        from overcomplete.sae import TopKSAE, train_sae

        self.model, self.train = TopKSAE(d, a.n_latents, top_k=a.k), train_sae
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=5e-4)

    def step(self, x):
        def error(x, x_hat, pre_codes, codes, dictionary):
            return (x - x_hat).square().mean()

        self.train(self.model, [x], error, self.optimizer, nb_epochs=1, monitoring=0)

    def encode(self, x):
        return self.model.encode(x)[1]

    def decode(self, codes):
        return self.model.decode(codes)

    def finish(self):
        self.model.eval()


PEERS = {
    "sparsify": Sparsify,
    "sparsify-signum": SparsifySignum,
    "saelens": SaeLens,
    "dictionary_learning": DictionaryLearning,
    "overcomplete": Overcomplete,
}


def main():
    a = arguments()
    shards.threads(a.threads)
    os.environ.update(SPARSIFY_DISABLE_TRITON="1", HF_HUB_OFFLINE="1", WANDB_MODE="disabled")
    import numpy as np
    import torch

    torch.set_num_threads(a.threads)
    torch.manual_seed(0)
    limit = (a.steps + 6) * a.batch if a.steps else a.tokens
    x = shards.shuffled(shards.rows(a.data, "train", limit)["activation"])
    planned = a.tokens // a.batch
    peer = PEERS[a.peer](x.shape[1], a, planned)
    times, cpu = [], shards.cpu_s()
    for start in range(0, len(x) - a.batch + 1, a.batch):
        batch = torch.from_numpy(x[start : start + a.batch].astype(np.float32))
        began = time.perf_counter()
        peer.step(batch)
        times.append(time.perf_counter() - began)
    cpu, trained_s = shards.cpu_s() - cpu, shards.age_s()
    steady = np.array(times[5:] or times)
    figures = {
        "tokens_per_s": a.batch / float(np.median(steady)),
        "tokens_per_s_best": a.batch / float(steady.min()),
        "cpu_s_per_million": cpu / (len(times) * a.batch) * 1e6,
        "peak_rss_mb": shards.peak_rss_mb(),
        "tokens": len(times) * a.batch,
    }
    if not a.steps:
        figures["whole_tokens_per_s"] = figures["tokens"] / trained_s
        peer.finish()
        heldout = shards.rows(a.data, "test")["activation"]
        with torch.no_grad():
            figures |= shards.score(
                heldout,
                lambda block: peer.encode(torch.from_numpy(block)).numpy(),
                lambda codes: peer.decode(torch.from_numpy(codes)).numpy(),
            )
    shards.tell(tool=a.peer, n_latents=a.n_latents, k=a.k, **figures)


if __name__ == "__main__":
    sys.exit(main())
