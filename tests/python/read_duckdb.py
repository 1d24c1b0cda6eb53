"""DuckDB reads every table of a run, and the books balance.

    read_duckdb.py RUN OUTPUT      OUTPUT: what the program printed on standard output
"""

import shutil
import sys
import tempfile

import duckdb
from published import DUCKDB, ROOT, TABLES, Run, near, said, same, schema

SQL = ROOT / "infra" / "sql"

# Each context of one shard, and whether the shard holds there what the example says.
PROVENANCE = """
WITH place AS (
    SELECT DISTINCT row, tokens, token_ids, str_tokens, seq_id, doc_id, pos, row_group, row_in_group
    FROM autointerp_candidates WHERE shard = getvariable('shard')
),
source AS (
    SELECT token_id, token, seq_id, doc_id, pos, file_row_number AS source_row
    FROM read_parquet(getvariable('file'), file_row_number = true)
),
groups AS (
    SELECT DISTINCT row_group_id, row_group_num_rows AS n FROM parquet_metadata(getvariable('file'))
),
read_again AS (
    SELECT place.row, list(token_id ORDER BY source_row) AS ids, list(token ORDER BY source_row) AS texts,
        list(DISTINCT source.seq_id) AS seqs, list(DISTINCT source.doc_id) AS docs, min(source.pos) AS pos
    FROM place JOIN source ON source_row BETWEEN place.row AND place.row + tokens - 1
    GROUP BY place.row
)
SELECT row,
    ids = token_ids AND texts = str_tokens AND seqs = [seq_id] AND docs = [doc_id] AND read_again.pos = place.pos
    AND row = row_in_group + (SELECT coalesce(sum(n), 0) FROM groups WHERE row_group_id < row_group)
FROM place JOIN read_again USING (row)
"""

# Small falsifications, each of which the audit must notice.
FALSE = (
    ("activation_stats", "fires + (latent = 7)::INTEGER AS fires"),
    ("activation_stats", 'CASE WHEN latent = 7 THEN "sum" + 1 ELSE "sum" END AS "sum"'),
    ("activation_stats", "CASE WHEN latent = 7 THEN list_reverse(histogram) ELSE histogram END AS histogram"),
    ("coactivations", "CASE WHEN rank = 3 THEN n_both + 1 ELSE n_both END AS n_both"),
    ("autointerp_candidates", "CASE WHEN rank = 1 THEN 'score' ELSE 'explain' END AS split"),
    ("autointerp_candidates", "CASE WHEN kind = 'hard_negative' THEN latent END AS neighbour_latent"),
    ("quality", "nnz + 1 AS nnz"),
    ("shards", "heldout + 1 AS heldout"),
    ("features", "list_transform(decoder, x -> 2 * x) AS decoder"),
    ("feature_lineage", "feature_id + 1 AS feature_id"),
)


def main():
    run, output = Run(), open(sys.argv[2], encoding="utf-8").read()
    con = duckdb.connect()
    delta = load_delta(con)
    tables_have_their_types(con, run, delta)
    printed_queries_run(con, output, delta)
    con.execute("SET VARIABLE run = ?", [str(run.path)])
    con.execute((SQL / "views.sql").read_text())
    queries_for_people_answer(con)
    books_balance(con)
    the_audit_notices(con)
    quality_follows_from_sums(con)
    examples_are_where_they_say(con)
    if delta:
        half_written_parts_are_invisible(con, run)


def load_delta(con):
    """The extension from PyPI; a machine without it can still read Parquet."""
    try:
        from duckdb_extensions import import_extension

        import_extension("delta")
        con.execute("LOAD delta")
        return True
    except Exception as error:  # every way in which an extension can be missing
        print(f"skipped: delta_scan ({error})")
        return False


def tables_have_their_types(con, run, delta):
    for table in TABLES:
        reads = [f"read_parquet('{run.parts(table)}')"]
        reads += [f"delta_scan('{run.table(table)}')"] if delta else []
        counts = []
        for read in reads:
            found = {row[0]: row[1] for row in con.execute(f"DESCRIBE FROM {read}").fetchall()}
            same(f"types of {read}", found, schema(table, DUCKDB))
            counts.append(con.execute(f"SELECT count(*) FROM {read}").fetchone()[0])
        same(f"rows of {table}", len(set(counts)), 1)
        same(f"{table} has rows", counts[0] > 0, True)
        said(f"{table}: {counts[0]} rows, types as documented, by {len(reads)} ways")


def printed_queries_run(con, output, delta):
    queries = [line for line in output.splitlines() if line.startswith("SELECT ")]
    same("queries at the end of a run", len(queries), 3)
    for query in queries:
        same(query, len(con.execute(query).fetchall()) > 0, True)
    said("the three queries that a run ends with")
    if delta:
        (hint,) = [line for line in output.splitlines() if "delta_scan(" in line]
        query = hint[hint.index("SELECT ") :]
        same(query, con.execute(query).fetchone()[0] > 0, True)
        said("the query through the Delta log that a run ends with")


def queries_for_people_answer(con):
    names = sorted(path.name for path in SQL.glob("*.sql") if path.name not in ("views.sql", "audit.sql"))
    for name in names:
        rows = con.execute((SQL / name).read_text()).fetchall()
        same(f"{name} answers", len(rows) > 0, True)
    said(f"infra/sql: {', '.join(names)}")


def unbalanced(con):
    """The first query of the audit that returns rows, with some of them."""
    for statement in con.extract_statements((SQL / "audit.sql").read_text()):
        if rows := con.execute(statement).fetchmany(3):
            return f"{statement.query.strip()}\n  {rows}"
    return None


def books_balance(con):
    same("audit.sql", unbalanced(con), None)
    said(f"audit.sql: {len(con.extract_statements((SQL / 'audit.sql').read_text()))} balances")


def the_audit_notices(con):
    views = (SQL / "views.sql").read_text()
    for table, change in FALSE:
        path = f"getvariable('run') || '/tables/{table}/*.parquet'"
        con.execute(f"CREATE OR REPLACE VIEW {table} AS SELECT * REPLACE ({change}) FROM read_parquet({path})")
        same(f"audit.sql notices {table}: {change}", unbalanced(con) is not None, True)
        con.execute(views)
    said(f"audit.sql notices {len(FALSE)} falsifications")


def quality_follows_from_sums(con):
    rows = con.execute((SQL / "quality.sql").read_text()).fetchall()
    for split, _, *figures in rows:
        for published, again in zip(figures[:4], figures[4:]):
            near(f"quality of {split}", published, again)
    said(f"quality: FVU, L0, cosine and bias of {len(rows)} splits from the integer sums")


def examples_are_where_they_say(con):
    """Tokens, sequence and position of every example, read again from the shard it names."""
    wrong, checked = [], 0
    for (shard,) in con.execute("SELECT DISTINCT shard FROM autointerp_candidates").fetchall():
        con.execute("SET VARIABLE shard = ?", [shard])
        con.execute("SET VARIABLE file = ?", [shard.removeprefix("file://")])
        rows = con.execute(PROVENANCE).fetchall()
        wrong += [(shard, row) for row, right in rows if not right]
        checked += len(rows)
    same("examples that are not where they say", wrong[:3], [])
    said(f"provenance: {checked} contexts read again from their shards")


def half_written_parts_are_invisible(con, run):
    with tempfile.TemporaryDirectory() as directory:
        copy = f"{directory}/features"
        shutil.copytree(run.table("features"), copy)
        count = f"SELECT count(*) FROM delta_scan('{copy}')"
        before = con.execute(count).fetchone()
        with open(f"{copy}/part-zz.parquet", "wb") as part:
            part.write(b"PAR1 and then the machine went away")
        same("rows beside a half-written part", con.execute(count).fetchone(), before)
    said("a half-written part is invisible through the Delta log")


main()
