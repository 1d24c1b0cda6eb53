"""A finished run as a reader finds it, and the schemas that the documentation promises."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TABLES = (
    "features",
    "activation_stats",
    "coactivations",
    "autointerp_candidates",
    "train_metrics",
    "feature_lineage",
    "shards",
    "operator_stats",
    "quality",
)

# How each reader spells the types of schemas/README.md.
DUCKDB = {
    "utf8": "VARCHAR", "int32": "INTEGER", "int64": "BIGINT", "float32": "FLOAT",
    "float64": "DOUBLE", "boolean": "BOOLEAN",
    "list": "{}[]", "struct": "STRUCT({})", "field": "{} {}", "comma": ", ",
}  # fmt: skip
SPARK = {
    "utf8": "string", "int32": "int", "int64": "bigint", "float32": "float",
    "float64": "double", "boolean": "boolean",
    "list": "array<{}>", "struct": "struct<{}>", "field": "{}:{}", "comma": ",",
}  # fmt: skip
POLARS = {
    "utf8": "String", "int32": "Int32", "int64": "Int64", "float32": "Float32",
    "float64": "Float64", "boolean": "Boolean",
    "list": "List({})", "struct": "Struct({{{}}})", "field": "'{}': {}", "comma": ", ",
}  # fmt: skip
DELTA = SPARK | {"int32": "integer", "int64": "long"}


class Run:
    """The run named on the command line: `script.py RUN`."""

    def __init__(self, path=None):
        self.path = Path(path or sys.argv[1]).resolve()

    def table(self, name):
        return str(self.path / "tables" / name)

    def parts(self, name):
        return f"{self.table(name)}/*.parquet"


def documented(table):
    """The columns of a table as [(name, type, nullable)], from schemas/golden."""
    (golden,) = (ROOT / "schemas" / "golden").glob(f"{table}.v*.txt")
    rows = [line.split(" | ") for line in golden.read_text().splitlines()]
    return [(name, kind, null == "null") for name, kind, null, *_ in rows]


def spelled(kind, words):
    """A documented type in the words of one reader."""
    if inner := re.fullmatch(r"list<(.*)>", kind):
        return words["list"].format(spelled(inner[1], words))
    if inner := re.fullmatch(r"struct<(.*)>", kind):
        fields = [field.split(": ") for field in inner[1].split(", ")]
        fields = [words["field"].format(name, spelled(of, words)) for name, of in fields]
        return words["struct"].format(words["comma"].join(fields))
    return words[kind]


def schema(table, words):
    """{column: type} of a table in the words of one reader."""
    return {name: spelled(kind, words) for name, kind, _ in documented(table)}


def same(what, found, wanted):
    """Ends the script if two things that must be equal are not."""
    if found != wanted:
        sys.exit(f"FAILED: {what}\n  found:  {found}\n  wanted: {wanted}")


def near(what, found, wanted, relative=1e-12):
    """Ends the script if two numbers differ by more than rounding."""
    if abs(found - wanted) > relative * max(abs(found), abs(wanted)):
        sys.exit(f"FAILED: {what}\n  found:  {found!r}\n  wanted: {wanted!r}")


def said(text):
    print(f"checked: {text}", flush=True)
