"""What damages a file, or lays a trap in it: functions of its bytes and a seeded generator of random numbers."""

from __future__ import annotations

import io
import struct
import zipfile

BOMB = 1 << 26  # bytes that a compressed entry claims to be


def trap(canary):
    """Opcodes that call a function which makes a folder, if anything calls it."""
    path = str(canary).encode()
    return b"cos\nmkdir\nX" + struct.pack("<I", len(path)) + path + b"\x85R"


def flip(data, random, canary):
    """Some bits."""
    out = bytearray(data)
    for _ in range(random.randint(1, 8)):
        out[random.randrange(len(out))] ^= 1 << random.randrange(8)
    return bytes(out)


def truncate(data, random, canary):
    """The end is lost."""
    return data[: random.randrange(len(data))]


def head_flip(data, random, canary):
    """A byte near the beginning, where the pickle has its structure."""
    out = bytearray(data)
    for _ in range(random.randint(1, 3)):
        out[random.randrange(min(len(out), 4000))] = random.randrange(256)
    return bytes(out)


def splice(data, random, canary):
    """Opcodes where there were others: calls, giant lengths, nonsense."""
    snippets = [
        trap(canary),
        trap(canary) + b"0",
        b"\x8e" + struct.pack("<Q", 1 << 62),
        b"B" + struct.pack("<I", 0xFFFFFFF0),
        b"X" + struct.pack("<I", 0x7FFFFFFF),
        b"j" + struct.pack("<I", 0xFFFFFFFF),
        b"r" + struct.pack("<I", 0xFFFFFFFF),
        b"\x8a\xff" + b"\x01" * 255,
        b"(" * random.randint(1, 40_000),
        b"]" * random.randint(1, 40_000),
        b"}\x94" * random.randint(1, 40_000),
        b"\x85" * random.randint(1, 40_000),
        b"cbuiltins\neval\nX\x01\x00\x00\x001\x85R",
        bytes(random.randrange(256) for _ in range(random.randint(1, 30))),
        b"Q",
        b"R",
        b"b",
        b"u",
    ]
    at = random.randrange(min(len(data), 6000))
    return data[:at] + random.choice(snippets) + data[at + random.randint(0, 4) :]


def giants(data, random, canary):
    """Sizes of tensors and arrays that no file holds, and strides of 0: small numbers become large or none."""
    out, places = data, [i for i in range(min(len(data) - 2, 40_000)) if data[i : i + 1] == b"K"]
    for _ in range(random.randint(1, 4)):
        if not places:
            break
        at = random.choice(places)
        giant = b"\x8a\x05" + struct.pack("<q", random.choice([1 << 32, 1 << 38]))[:5]
        out = out[:at] + random.choice([b"K\x00", b"J\xff\xff\xff\x7f", giant]) + out[at + 2 :]
    return out


def deep(data, random, canary):
    """A pickle of nothing but nesting."""
    count = random.randint(1, 60_000)
    return random.choice([b"(" * count, b"]" * count, b"]q\x00" + b"h\x00a" * count, b")" + b"\x85" * count]).join(
        [b"\x80\x04", b"."]
    )


def rezip(data, random, canary):
    """Of a zip, the pickle within is damaged, or entries are compressed, doubled, of another root, or lie of sizes."""
    if not data.startswith(b"PK"):
        return splice(data, random, canary)
    source, out = zipfile.ZipFile(io.BytesIO(data)), io.BytesIO()
    kind = random.randrange(5)
    inner = random.choice([flip, head_flip, splice, giants, truncate])
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED if kind == 1 else zipfile.ZIP_STORED) as made:
        for name in source.namelist():
            content = source.read(name)
            if name.endswith("data.pkl") and kind in (0, 4):
                content = inner(content, random, canary)
            made.writestr(f"other/{name}" if kind == 2 and random.random() < 0.1 else name, content)
        if kind == 1:
            made.writestr(f"{source.namelist()[0].split('/')[0]}/data/bomb", bytes(BOMB))
    whole = bytearray(out.getvalue())
    if kind == 3:
        at = random.randrange(max(len(whole) - 2000, 0), len(whole) - 4)
        whole[at : at + 4] = struct.pack("<I", random.choice([0, 1, 0x7FFFFFFF, 0xFFFFFFFF]))
    return bytes(whole)


MUTATIONS = {one.__name__: one for one in (flip, truncate, head_flip, splice, giants, deep, rezip)}
