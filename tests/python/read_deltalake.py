"""The deltalake package reads the log of every table: versions, files, schema, and who committed.

    read_deltalake.py RUN
"""

import json

from deltalake import DeltaTable
from published import DELTA, TABLES, Run, documented, said, same, spelled


def main():
    run = Run()
    manifest = json.loads((run.path / "manifest.json").read_text())
    for table in TABLES:
        log, entry = DeltaTable(run.table(table)), manifest["tables"][table]
        same(f"version of {table}", log.version(), entry["version"])
        files_are_those_of_the_manifest(log, entry, table)
        columns_are_as_documented(log, table)
        same(f"rows of {table}", log.to_pyarrow_table().num_rows, entry["rows"])
        same(f"writer of {table}", log.transaction_version(manifest["run"]), entry["version"])
        said(f"{table}: version {log.version()}, {len(log.file_uris())} files, columns and nulls as documented")


def files_are_those_of_the_manifest(log, entry, table):
    found = sorted(uri.rsplit("/", 1)[-1] for uri in log.file_uris())
    same(f"files of {table}", found, sorted(file["path"].rsplit("/", 1)[-1] for file in entry["files"]))


def columns_are_as_documented(log, table):
    found = [(f.name, kind(f.type), f.nullable) for f in log.schema().fields]
    wanted = [(name, spelled(of, DELTA), null) for name, of, null in documented(table)]
    same(f"columns of {table}", found, wanted)


def kind(of):
    """A Delta type in one line."""
    if of.type == "array":
        return f"array<{kind(of.element_type)}>"
    if of.type == "struct":
        return f"struct<{','.join(f'{field.name}:{kind(field.type)}' for field in of.fields)}>"
    return of.type


main()
