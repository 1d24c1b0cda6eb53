"""DuckDB and pyarrow read converted shards, and numpy finds the checksums of `convert.json`.

    read_converted.py OUT
"""

import hashlib
import json
import pathlib
import sys

import duckdb
import numpy as np
import pyarrow.parquet as pq

out = pathlib.Path(sys.argv[1])
said = json.loads((out / "convert.json").read_text())
dtype = {"f16": "<f2", "f32": "<f4"}[said["dtype"]]


def checksum(rows):
    """The sum over rows of the first 16 bytes of the SHA-256 of their values as little-endian f32."""
    digests = (hashlib.sha256(row.astype("<f4").tobytes()).digest()[:16] for row in rows)
    return sum(int.from_bytes(digest, "big") for digest in digests) % 2**128


def dense(raw):
    rows = np.frombuffer(b"".join(raw), dtype).reshape(len(raw), -1)
    assert rows.shape[1] == said["d_in"], rows.shape
    return rows


total = 0
for file in said["files"]:
    path = out / file["path"]
    assert hashlib.sha256(path.read_bytes()).hexdigest() == file["sha256"], path
    table = pq.read_table(path)
    metadata = pq.read_metadata(path)
    assert metadata.metadata[b"dtype"].decode() == said["dtype"], metadata.metadata
    assert int(metadata.metadata[b"d_in"]) == said["d_in"], metadata.metadata
    rows = dense(table["activation"].to_pylist())
    found = f"{checksum(rows):032x}"
    assert (found, len(rows)) == (file["checksum"], file["rows"]), (path, found, len(rows))
    columns = "activation, token_id, token, doc_id, seq_id, pos"
    again = duckdb.sql(f"SELECT {columns} FROM read_parquet('{path}', file_row_number = true) ORDER BY file_row_number")
    again = again.fetchall()
    assert (dense([row[0] for row in again]) == rows).all(), path
    for at, name in enumerate(columns.split(", ")[1:], 1):
        assert [row[at] for row in again] == table[name].to_pylist(), (path, name)
    total = (total + checksum(rows)) % 2**128

assert f"{total:032x}" == said["checksum"], total
print(f"{len(said['files'])} shards, {said['rows']} rows")
