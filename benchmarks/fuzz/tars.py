"""Hostile tars, made block by block."""

import bz2
import functools
import gzip
import io
import lzma
import struct
import tarfile
from collections.abc import Callable, Iterator

from benchmarks.fuzz import names
from benchmarks.fuzz.case import Case

GOOD = b"good picture"
END = bytes(1024)
_MIB = 1 << 20
_LEFT_OUT = {"x.png": GOOD}  # beside what is not written


def block(name: bytes, content: bytes = GOOD, kind: bytes = b"0", size: int | None = None, **at):
    """A member: a header and its content in whole blocks.

    Args:
        name: up to 100 bytes. size: as the header says it, else that of the content.
        at: `p` and an offset in the header -> bytes that stand there.
    """
    head = bytearray(tarfile.TarInfo("x").tobuf(tarfile.USTAR_FORMAT))
    head[0:100] = name[:100].ljust(100, b"\0")
    head[124:136] = number(len(content) if size is None else size)
    head[156:157] = kind
    for place, value in at.items():
        head[int(place[1:]) : int(place[1:]) + len(value)] = value
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head) + content + bytes(-len(content) % 512)


def number(value: int) -> bytes:
    """A field of 12 bytes: octal, or beyond that, and below zero, of base 256."""
    if 0 <= value < 8**11:
        return b"%011o\0" % value
    return (b"\xff" if value < 0 else b"\x80") + (value % 2**88).to_bytes(11)


def long(name: bytes, kind: bytes = b"L") -> bytes:
    """GNU's header of a long name, or with `K` of a long target."""
    return block(b"././@LongLink", name + b"\0", kind)


def record(key: bytes, value: bytes, length: int | None = None) -> bytes:
    """A record of a pax header."""
    whole = len(key) + len(value) + 3
    whole += len(str(whole + len(str(whole))))
    return b"%d %s=%s\n" % (whole if length is None else length, key, value)


def pax(*records: bytes, kind: bytes = b"x") -> bytes:
    """A pax header of these records."""
    return block(b"pax", b"".join(records), kind)


LAST = block(b"x.png")


def one(kind: str, name: str, *blocks: bytes, refused: str | None = None, **more) -> Case:
    """A case of a tar of these blocks, refused with some words or unpacked to `files`."""
    end = more.pop("end", END)
    files = None if refused is not None else more.pop("files", _LEFT_OUT)
    more.pop("files", None)
    return Case(kind, name, functools.partial(b"".join, (*blocks, end)), refused, files, **more)


def cases() -> Iterator[Case]:
    """All of them."""
    yield from _names()
    yield from _links()
    yield from _pax()
    yield from _sparse()
    yield from _headers()
    yield from _packed()
    yield from _bombs()


def _named(name: str) -> bytes:
    raw = name.encode()
    return block(raw) if len(raw) <= 100 else long(raw) + block(raw)


def _names() -> Iterator[Case]:
    for name in names.OUTSIDE:
        label = repr(name)
        yield one("tar: names outside", label, _named(name), refused="leads outside")
    for name in ("../x.png", "/x.png", "a/../../x.png", "C:/x.png", ".."):
        routes = {
            "pax": pax(record(b"path", name.encode())) + LAST,
            "pax for all": pax(record(b"path", name.encode()), kind=b"g") + LAST,
            "GNU": long(name.encode()) + LAST,
            "prefix": block(b"x.png", p345=name.encode()),
            "sparse": pax(record(b"GNU.sparse.name", name.encode())) + LAST,
        }
        for route, data in routes.items():
            yield one("tar: names outside", f"{name} by {route}", data, refused="leads outside")
    for name in names.ODD:
        yield one("tar: odd names", repr(name), _named(name), files={name: GOOD})
    for label, name, words in names.LONG:
        yield one("tar: odd names", label, _named(name), refused=words)
        path = pax(record(b"path", name.encode()))
        yield one("tar: odd names", f"{label} by pax", path + LAST, refused=words)
    kind = "tar: long names"
    first = long(b"a.png")
    yield one(kind, "two of one member", first + long(b"b.png") + LAST, files=None)
    yield one(kind, "17 of one member", first * 17 + LAST, refused="more than 16 headers")
    yield one(kind, "3,000 of one member", first * 3000 + LAST, refused="more than 16 headers")
    yield one(kind, "targets and names in turns", (long(b"b", b"K") + first) * 9, refused="16 head")
    yield one(kind, "of 2 MiB", long(b"a" * 2 * _MIB) + LAST, refused="a header of more than")
    yield one(kind, "of no byte", block(b"long", b"", b"L") + LAST, refused="")
    yield one(kind, "of a negative size", block(b"l", b"", b"L", -512) + LAST, refused="negative")
    yield one(kind, "of 8 EiB", block(b"l", b"", b"L", 2**63) + LAST, refused="more than")
    yield one(kind, "a null byte inside", long(b"a.png\0../x") + LAST, files={"a.png": GOOD})
    yield one(kind, "without a member", first, refused="")
    yield one(kind, "before a damaged header", first + b"\xff" * 512, refused="")
    yield one(kind, "a folder's", long(b"../d/") + block(b"d", b"", b"5"), refused="leads outside")
    for label, pair, files in names.TWICE:
        members = [block(n.encode(), b"%d" % i) for i, n in enumerate(pair)]
        refused = "cannot be unpacked" if files is None else None
        twice = "tar: the same name twice"
        yield one(twice, label, *members, refused=refused, files=files)


def _links() -> Iterator[Case]:
    kind = "tar: links and devices"
    for label, code in (("soft", b"2"), ("hard", b"1")):
        for target in names.TARGETS:
            raw = target.encode()
            link = (long(raw, b"K") if len(raw) > 100 else b"") + block(b"l", b"", code, p157=raw)
            link = link if len(raw) <= 100 else long(raw, b"K") + block(b"l", b"", code)
            files = {"l/x.png": GOOD}
            yield one(kind, f"{label} to {target[:20]!r}", link, block(b"l/x.png"), files=files)
        pax_link = pax(record(b"linkpath", b"../../x")) + block(b"l", b"", code)
        yield one(kind, f"{label} by pax", pax_link, block(b"l/x.png"), files={"l/x.png": GOOD})
        chain = [block(b"l%d" % i, b"", code, p157=b"l%d" % (i + 1)) for i in range(50)]
        yield one(kind, f"{label}, 50 links to links", *chain, LAST)
        yield one(kind, f"{label} to itself", block(b"l", b"", code, p157=b"l"), LAST)
        over = block(b"x.png", b"", code, p157=b"../y.png")
        yield one(kind, f"{label} over a file", LAST, over)
        under = block(b"x.png", b"", code, p157=b"/tmp/y.png")
        yield one(kind, f"{label} below a file", under, LAST)
        yield one(kind, f"{label} of a size", block(b"l", GOOD, code, p157=b"x"), LAST, files=None)
    for code in b"3467DMVNZ":
        yield one(kind, f"type {code:c}", block(b"l", b"", bytes([code])), LAST, files=None)
    yield one(kind, "a device of 2^60", block(b"l", b"", b"3", p329=b"\xff" * 16), LAST, files=None)


def _pax() -> Iterator[Case]:
    kind, path = "tar: pax", record(b"path", b"a.png")
    values = (b"comment", b"a"), (b"SCHILY.xattr.user.a", b"\0\xff"), (b"uname", b"a" * 100_000)
    values += (b"mtime", b"nan"), (b"mtime", b"inf"), (b"mtime", b"-1e400"), (b"uid", b"-5")
    values += (b"gid", b"9" * 200), (b"atime", b"x"), (b"hdrcharset", b"BINARY"), (b"", b"a")
    values += (b"charset", b"ISO-IR 0"), (b"comment", b"c" * 900_000), (b"a=b", b"c")
    for key, value in values:
        yield one(kind, f"{key.decode()}={value[:9]!r}", pax(record(key, value)), LAST)
    for value, words in (
        (b"-1", "negative size"),
        (b"-1024", "negative size"),
        (b"99999999999999999999", "unpacks to more"),
        (b"9" * 300, "256 digits"),
        (b"abc", "damaged header"),  # counts as 0: what follows is no header
        (b"", "damaged header"),
        (b"1e3", "damaged header"),
    ):
        yield one(kind, f"size={value[:30]!r}", pax(record(b"size", value)), LAST, refused=words)
    for label, data, words in (
        ("a null byte in a path", record(b"path", b"a\0b.png"), "no file name"),
        ("no path", record(b"path", b""), ""),
        ("no UTF-8", record(b"path", b"\xff.png"), None),
        ("a record of no length", b"0 path=a.png\n", "damaged pax header"),
        ("a record of one byte", b"1 path=a.png\n", "damaged pax header"),
        ("a record longer than all", record(b"path", b"a.png", 999_999), "damaged pax header"),
        ("a record of a negative length", b"-9 path=a.png\n", "damaged pax header"),
        ("a length of 300 digits", b"9" * 300 + b" path=a.png\n", "damaged pax header"),
        ("no equals sign", b"10 abcdef\n", "damaged pax header"),
        ("no end of a line", b"14 path=a.png0", "damaged pax header"),
        ("records in each other", b"1 a" * 20_000, "damaged pax header"),
        ("of 2 MiB", record(b"comment", b"c" * 2 * _MIB), "a header of more than"),
        ("words alone", b"path", "damaged pax header"),
    ):
        files = {"a.png": GOOD} if words == "" else None
        yield one(kind, label, pax(data), LAST, refused=words, files=files)
    for many, words in ((1024, None), (1025, "more than 1024 records"), (60_000, "1024 records")):
        data = pax(*(record(b"k%d" % i, b"v") for i in range(many)))
        yield one(kind, f"{many} records", data, LAST, refused=words)
    yield one(kind, "17 of one member", pax(path) * 17 + LAST, refused="more than 16 headers")
    yield one(kind, "in turns with names", (pax(path) + long(b"b")) * 9, refused="16 headers")
    yield one(kind, "for all, 17 times", pax(path, kind=b"g") * 17 + LAST, refused="16 headers")
    common = [record(b"k%d" % i, b"v") for i in range(65)]
    yield one(kind, "65 keys for all", pax(*common, kind=b"g") + LAST, refused="more than 64 keys")
    yield one(kind, "without a member", pax(path), refused="")
    yield one(kind, "Solaris's", pax(path, kind=b"X"), LAST, files={"a.png": GOOD})
    long_path = pax(record(b"path", b"b.png")) + long(b"a.png") + LAST
    yield one(kind, "beside a long name", long_path, files=None)


def _sparse() -> Iterator[Case]:
    kind = "tar: sparse files"
    new = record(b"GNU.sparse.major", b"1"), record(b"GNU.sparse.minor", b"0")

    def given(key: str, value: bytes) -> bytes:
        return record(b"GNU.sparse." + key.encode(), value)

    for label, records, words in (
        ("a map of words", (given("map", b"a,b"),), ""),
        ("a map of one number", (given("map", b"1"),), None),
        ("a map below zero", (given("map", b"-1,-1"),), None),
        ("a map of 100,000 numbers", (given("map", b"1," * 99_999 + b"1"),), None),
        ("10^9 blocks", (given("numblocks", b"1000000000"), given("size", b"9")), None),
        ("blocks of words", (given("numblocks", b"x"), given("size", b"9")), None),
        ("a size of 2^62", (*new, given("realsize", b"%d" % 2**62)), ""),
        ("a size below zero", (*new, given("realsize", b"-1")), ""),
        ("no map", new, ""),
        ("another version", (given("major", b"7"), given("minor", b"7")), None),
    ):
        yield one(kind, label, pax(*records), LAST, refused=words, files=None)
    for label, inside in (
        ("10^9 entries", b"1000000000\n" + b"1\n" * 250),
        ("entries below zero", b"-5\n1\n"),
        ("an entry of 5,000 digits", b"1\n" + b"9" * 5000 + b"\n1\n"),
        ("a map of no lines", b"9" * 4096),
    ):
        yield one(kind, label, pax(*new), block(b"a.png", inside), LAST, files=None)
    entry = number(2**62) + number(2**62)
    for label, fields in (
        ("old, beyond the file", {"p386": entry}),
        ("old, below zero", {"p386": number(-5) + number(-5)}),
        ("old, of words", {"p386": b"x" * 24}),
        ("old, a size of 2^62", {"p483": number(2**62)}),
        ("old, of a chain", {"p482": b"\1"}),
    ):
        old = block(b"a.png", GOOD, b"S", **fields)
        yield one(kind, label, old, LAST, files=None)
    endless = block(b"a.png", b"", b"S", 0, p482=b"\1") + (bytes(504) + b"\1" + bytes(7)) * 4096
    yield one(kind, "old, a chain of 2 MiB", endless, LAST, refused="a header of more than")


def _headers() -> Iterator[Case]:
    kind = "tar: damaged headers"
    first = block(b"a.png")
    both = {"a.png": GOOD, **_LEFT_OUT}
    for label, fields in (
        ("a mode below zero", {"p100": b"\xff" * 8}),
        ("a time below zero", {"p136": number(-(2**60))}),
        ("a time of 2^80", {"p136": number(2**80)}),
        ("a user below zero", {"p108": b"\xff" * 8}),
        ("a device below zero", {"p329": b"\xff" * 16}),
        ("names of no UTF-8", {"p265": b"\xff" * 64}),
        ("another magic", {"p257": b"ustar\0xx"}),
        ("no magic", {"p257": bytes(8)}),
    ):
        yield one(kind, label, first, block(b"x.png", **fields), files=both)
    for label, fields in (
        ("a mode of words", {"p100": b"xxxxxxxx"}),
        ("a time of words", {"p136": b"x" * 12}),
        ("a size of words", {"p124": b"x" * 12}),
        ("a user of words", {"p108": b"x" * 8}),
    ):
        damaged = block(b"x.png", **fields)
        yield one(kind, label, first, damaged, first, refused="damaged header")
    wrong = bytearray(LAST)
    wrong[0] ^= 1
    yield one(kind, "a checksum", first, bytes(wrong), first, refused="damaged header")
    yield one(kind, "the first checksum", bytes(wrong), first, refused="not a zip or tar")
    yield one(kind, "words between members", first, b"x" * 512, LAST, refused="damaged header")
    yield one(kind, "cut in a header", first, LAST[:300], end=b"", refused="ends in a header")
    yield one(kind, "cut in a picture", first, LAST[:520], end=b"", refused="cannot be unpacked")
    yield one(kind, "cut behind a member", first, end=b"", files={"a.png": GOOD})
    yield one(kind, "one block of zeros at the end", first, end=bytes(512), files={"a.png": GOOD})
    yield one(kind, "more behind the end", first, END, LAST, files={"a.png": GOOD})
    for size in (-1, -512, -(2**80)):
        member = block(b"a.png", b"", size=size)
        yield one(kind, f"a size of {size}", LAST, member, refused="negative size")
    for size, words in ((2**80, "unpacks to more"), (8**11 - 1, "unpacks to more"), (5000, "")):
        member = block(b"a.png", b"", size=size)
        yield one(kind, f"a size of {size}", LAST, member, refused=words)
    inside = io.BytesIO()
    import zipfile

    with zipfile.ZipFile(inside, "w") as archive:
        archive.writestr("other.png", b"other")
    member = block(b"b.zip", inside.getvalue())
    files = {"a.png": GOOD, "b.zip": inside.getvalue()}
    yield one(kind, "a zip as the last member", first, member, files=files)


def _packed() -> Iterator[Case]:
    kind, plain = "tar: compressed", LAST + END
    xz = lzma.compress(plain)
    packed: dict[str, tuple[Callable[[], bytes], str | None]] = {
        "gzip": (lambda: gzip.compress(plain), None),
        "gzip, cut": (lambda: gzip.compress(plain)[:-20], ""),
        "gzip, another checksum": (lambda: gzip.compress(plain)[:-8] + bytes(8), None),
        "gzip, then words": (lambda: gzip.compress(plain) + b"words" * 99, None),
        "gzip in parts": (lambda: b"".join(gzip.compress(plain[i : i + 9]) for i in range(99)), ""),
        "gzip in gzip": (lambda: gzip.compress(gzip.compress(plain)), "not a zip or tar"),
        "gzip, its head alone": (lambda: b"\x1f\x8b\x08", ""),
        "gzip of a name without end": (lambda: b"\x1f\x8b\x08\x08" + b"a" * _MIB, ""),
        "gzip of nothing": (lambda: gzip.compress(b""), "not a zip or tar"),
        "100,000 parts of gzip": (lambda: gzip.compress(b"") * 10**5 + gzip.compress(plain), None),
        "bzip2": (lambda: bz2.compress(plain), None),
        "bzip2, cut": (lambda: bz2.compress(plain)[:-9], ""),
        "bzip2, its head alone": (lambda: b"BZh9", ""),
        "50,000 parts of bzip2": (lambda: bz2.compress(b"") * 50_000 + bz2.compress(plain), None),
        "xz": (lambda: xz, None),
        "xz, cut": (lambda: xz[:-60], ""),
        "xz, cut behind the tar": (lambda: xz[:-30], None),
        "xz, another checksum": (lambda: xz[:-20] + bytes(20), None),
        "xz, its head alone": (lambda: xz[:12], ""),
        "100,000 parts of xz": (lambda: lzma.compress(b"") * 10**5 + xz, None),
        "xz behind a megabyte of zeros": (
            lambda: lzma.compress(b"") + bytes(_MIB) + xz,
            None,
        ),
        "lzma": (lambda: lzma.compress(plain, lzma.FORMAT_ALONE), None),
        "lzma with a dictionary of 4 GiB": (
            lambda: (
                b"\x5d" + struct.pack("<I", 2**32 - 1) + lzma.compress(plain, lzma.FORMAT_ALONE)[5:]
            ),
            "not a zip or tar",
        ),
        "words": (lambda: b"words " * 999, "not a zip or tar"),
        "no byte": (lambda: b"", "not a zip or tar"),
        "zeros": (lambda: bytes(10_240), None),
        "one byte": (lambda: b"\x1f", "not a zip or tar"),
    }
    for label, (build, refused) in packed.items():
        whole = label in ("gzip", "bzip2", "xz", "lzma") or "parts of" in label
        yield Case(kind, label, build, refused, _LEFT_OUT if whole else None)


def _bombs() -> Iterator[Case]:
    kind = "tar: bombs"
    zeros = bytes(16 * _MIB)
    inside = {"a.png": zeros}
    for label, pack in (("gzip", gzip.compress), ("bzip2", bz2.compress), ("xz", lzma.compress)):
        build = functools.cache(lambda p=pack: p(block(b"a.png", zeros) + END))
        slow = label == "bzip2"
        yield Case(kind, f"16 MiB of zeros, {label}", build, None, inside, mib=128, slow=slow)
        claimed = functools.partial(pack, block(b"a.png", b"", size=2 << 30) + bytes(4096))
        yield Case(kind, f"2 GiB, {label} says", claimed, "unpacks to more than 1024 MiB")
        name = functools.partial(pack, block(b"l", zeros, b"L") + LAST + END)
        yield Case(kind, f"a name of 16 MiB, {label}", name, "a header of more than", slow=slow)
    tar = lambda: gzip.compress(  # noqa: E731
        b"".join(block(b"l%d" % i, zeros, b"2") for i in range(4)) + LAST + END
    )
    yield Case(kind, "links of 64 MiB", tar, None, None)
    folders = b"".join(block(b"d/" * 40 + b"%d" % i, b"", b"5") for i in range(5000))
    yield one(kind, "5,000 folders", folders, LAST)
    empty = b"".join(block(b"%06d.png" % i, b"") for i in range(3000))
    yield one(kind, "3,000 entries", empty, files={f"{i:06d}.png": b"" for i in range(3000)})
    yield Case(
        kind,
        "100,000 entries",
        lambda: b"".join(block(b"%06d.png" % i, b"") for i in range(100_000)) + END,
        None,
        {f"{i:06d}.png": b"" for i in range(100_000)},
        seconds=120,
        slow=True,
    )
    yield Case(
        kind,
        "300,000 entries of no byte",
        lambda: gzip.compress(block(b"x.png", b"") * 300_000 + END, 1),
        "unpacks to more than 1024 MiB",
        seconds=120,
        slow=True,
    )
    headers = b"".join(pax(record(b"c%d" % i, b"v" * 100_000)) + LAST for i in range(60))
    yield one(kind, "6 MB of pax headers", headers)
    records = pax(*(record(b"%d" % i, b"") for i in range(1000))) + LAST
    build = functools.partial(b"".join, [records] * 200 + [END])
    yield Case(kind, "200 pax headers of 1,000 records", build, None, _LEFT_OUT)
