"""Made-up activations as Parquet shards, with nothing but Python: what end-to-end speed is measured on.

    shards.py DIRECTORY [--d 2048] [--rows 262144] [--shards 8] [--group-rows 8192]

One column, `activation`, FixedSizeBinary of little-endian f16, PLAIN, uncompressed, as `atomflow convert`
writes it. Rows are normal numbers: a few hundred are drawn, the others are these rotated by some places, so
a gigabyte takes seconds. There is nothing in them to learn; what they cost is what any rows cost.
"""
import argparse
import os
import random
import struct

DRAWN = 256

# Thrift's compact protocol, as much of it as a footer needs
I32, I64, BINARY, LIST, STRUCT = 5, 6, 8, 9, 12


def varint(number):
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes(out + bytes([number]))


def zigzag(number):
    return varint(number << 1 if number >= 0 else (-number << 1) - 1)


def thing(kind, value):
    """A value of a kind; lists are (kind of the items, items), structs {field: (kind, value)}."""
    if kind in (I32, I64):
        return zigzag(value)
    if kind == BINARY:
        return varint(len(value)) + value
    if kind == LIST:
        inner, items = value
        size = bytes([len(items) << 4 | inner]) if len(items) < 15 else bytes([0xF0 | inner]) + varint(len(items))
        return size + b"".join(thing(inner, item) for item in items)
    out, last = b"", 0
    for field, (inner, item) in sorted(value.items()):
        out += bytes([(field - last) << 4 | inner]) + thing(inner, item)
        last = field
    return out + b"\0"


# Parquet's words: physical types, encodings, a page of values
FIXED_LEN_BYTE_ARRAY, PLAIN, RLE, UNCOMPRESSED, REQUIRED, DATA_PAGE = 7, 0, 3, 0, 0, 0
NAME = b"activation"


def page_header(rows, size):
    data = {1: (I32, rows), 2: (I32, PLAIN), 3: (I32, RLE), 4: (I32, RLE)}
    return thing(STRUCT, {1: (I32, DATA_PAGE), 2: (I32, size), 3: (I32, size), 5: (STRUCT, data)})


def group(rows, size, offset):
    column = {
        1: (I32, FIXED_LEN_BYTE_ARRAY), 2: (LIST, (I32, [PLAIN, RLE])), 3: (LIST, (BINARY, [NAME])),
        4: (I32, UNCOMPRESSED), 5: (I64, rows), 6: (I64, size), 7: (I64, size), 9: (I64, offset),
    }
    chunk = {2: (I64, offset), 3: (STRUCT, column)}
    return {1: (LIST, (STRUCT, [chunk])), 2: (I64, size), 3: (I64, rows)}


def footer(rows, groups, width, dtype):
    root = {4: (BINARY, b"schema"), 5: (I32, 1)}
    leaf = {1: (I32, FIXED_LEN_BYTE_ARRAY), 2: (I32, width), 3: (I32, REQUIRED), 4: (BINARY, NAME)}
    about = [{1: (BINARY, b"dtype"), 2: (BINARY, dtype)}]
    return thing(STRUCT, {
        1: (I32, 1), 2: (LIST, (STRUCT, [root, leaf])), 3: (I64, rows), 4: (LIST, (STRUCT, groups)),
        5: (LIST, (STRUCT, about)), 6: (BINARY, b"atomflow infra/gpu/shards.py"),
    })


def drawn(d, seed):
    """Some rows of normal numbers with mean squared norm 1, each twice over, so that a slice is a rotation."""
    draw, scale = random.Random(seed), d**-0.5
    rows = (struct.pack(f"<{d}e", *(draw.gauss(0, scale) for _ in range(d))) for _ in range(DRAWN))
    return [row + row for row in rows]


def write(path, rows, d, group_rows, drawn_rows, first):
    """A shard of `rows` rows; `first` is the number of its first row among all."""
    width, groups = 2 * d, []
    with open(path, "wb") as file:
        file.write(b"PAR1")
        for start in range(0, rows, group_rows):
            count, offset = min(group_rows, rows - start), file.tell()
            header = page_header(count, count * width)
            file.write(header)
            for number in range(first + start, first + start + count):
                # A place for each round through the drawn rows: no two of a shard are the same.
                place = 2 * (number // DRAWN * 37 % d)
                file.write(drawn_rows[number % DRAWN][place : place + width])
            groups.append(group(count, len(header) + count * width, offset))
        end = footer(rows, groups, width, b"f16")
        file.write(end + struct.pack("<I", len(end)) + b"PAR1")
        file.flush()
        os.fsync(file.fileno())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory")
    parser.add_argument("--d", type=int, default=2048)
    parser.add_argument("--rows", type=int, default=262_144)
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--group-rows", type=int, default=8192)
    a = parser.parse_args()
    os.makedirs(a.directory, exist_ok=True)
    rows, each = drawn(a.d, 1), -(-a.rows // a.shards)
    for shard, first in enumerate(range(0, a.rows, each)):
        path = os.path.join(a.directory, f"shard-{shard:03}.parquet")
        write(path, min(each, a.rows - first), a.d, a.group_rows, rows, first)


if __name__ == "__main__":
    main()
