"""Hostile zips, made field by field."""

import bz2
import functools
import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from benchmarks.fuzz import names
from benchmarks.fuzz.case import Case

_MAX4, _MAX8 = 2**32 - 1, 2**64 - 1
_LINK = 0o120777
GOOD = b"good picture"


@dataclass(frozen=True)
class Member:
    """A member; what is None is as it should be.

    Attributes:
        packed: the bytes that stand in the file. size: that its content is said to have.
        local_name: in the header before the content. offset: where that is said to stand.
    """

    name: bytes
    content: bytes = GOOD
    method: int = 0
    packed: bytes | None = None
    size: int | None = None
    packed_size: int | None = None
    crc: int | None = None
    flags: int = 0x800  # names are UTF-8
    mode: int = 0o100644
    extra: bytes = b""
    local_name: bytes | None = None
    offset: int | None = None

    @functools.cached_property
    def body(self) -> bytes:
        """The packed content."""
        return _packed(self.content, self.method) if self.packed is None else self.packed

    def _sizes(self) -> bytes:
        crc = zlib.crc32(self.content) if self.crc is None else self.crc
        packed = len(self.body) if self.packed_size is None else self.packed_size
        size = len(self.content) if self.size is None else self.size
        return struct.pack("<III", crc, packed, size)

    def local(self) -> bytes:
        """The header before the content, and that."""
        name = self.name if self.local_name is None else self.local_name
        head = struct.pack("<5H", 45, self.flags, self.method, 0, 0) + self._sizes()
        return b"PK\3\4" + head + struct.pack("<HH", len(name), 0) + name + self.body

    def central(self, at: int) -> bytes:
        """The entry in the list at the end."""
        at = at if self.offset is None else self.offset
        head = struct.pack("<6H", 3 << 8 | 45, 45, self.flags, self.method, 0, 0) + self._sizes()
        head += struct.pack("<5H", len(self.name), len(self.extra), 0, 0, 0)
        return b"PK\1\2" + head + struct.pack("<II", self.mode << 16, at) + self.name + self.extra


@dataclass(frozen=True)
class Zip:
    """A zip; what is None is as it should be."""

    members: tuple[Member, ...]
    count: int | None = None
    list_size: int | None = None
    list_at: int | None = None
    comment: bytes = b""
    before: bytes = b""
    zip64: tuple[int, int, int] | None = field(default=None)  # entries, size and place of the list

    def bytes(self) -> bytes:
        """The file."""
        data, entries = bytearray(self.before), bytearray()
        for member in self.members:
            entries += member.central(len(data) - len(self.before))
            data += member.local()
        at = len(data) - len(self.before)
        data += entries
        count = len(self.members) if self.count is None else self.count
        size = len(entries) if self.list_size is None else self.list_size
        at = at if self.list_at is None else self.list_at
        zip64 = (count, size, at) if count > 0xFFFF and self.zip64 is None else self.zip64
        if zip64:
            record = struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, *zip64[:1], *zip64)
            data += b"PK\6\6" + record + b"PK\6\7" + struct.pack("<IQI", 0, len(data), 1)
            count, size, at = 0xFFFF, _MAX4, _MAX4
        end = struct.pack("<4HIIH", 0, 0, count, count, size, at, len(self.comment))
        return bytes(data) + b"PK\5\6" + end + self.comment


def _packed(content: bytes, method: int) -> bytes:
    if method == zipfile.ZIP_DEFLATED:
        return zlib.compress(content, 9)[2:-4]
    if method == zipfile.ZIP_BZIP2:
        return bz2.compress(content)
    if method == zipfile.ZIP_LZMA:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", method) as archive:
            archive.writestr("a", content)
        return file.getvalue()[31 : 31 + archive.infolist()[0].compress_size]
    return content


def one(kind: str, name: str, *members: Member, refused: str | None = None, **more) -> Case:
    """A case of a zip of these members, which are all unpacked unless `files` says otherwise."""
    files = more.pop("files", {m.name.decode("utf-8", "replace"): m.content for m in members})
    limits = {key: more.pop(key) for key in ("seconds", "mib", "slow") if key in more}
    build = Zip(members, **more).bytes
    return Case(kind, name, build, refused, None if refused is not None else files, **limits)


def cases() -> Iterator[Case]:
    """All of them."""
    yield from _names()
    yield from _links()
    yield from _twice()
    yield from _sizes()
    yield from _methods()
    yield from _lists()
    yield from _bombs()


def _names() -> Iterator[Case]:
    backslashes = ("..\\x.png", "\\x.png", "\\\\server\\share\\x.png", "a\\..\\..\\x.png")
    for name in (*names.OUTSIDE, *backslashes, "a/..\\../x.png"):
        yield one("zip: names outside", repr(name), Member(name.encode()), refused="leads outside")
    for name in names.ODD:
        yield one("zip: odd names", repr(name), Member(name.encode()))
    for label, name, words in names.LONG:
        member = Member(name.encode())
        yield one("zip: odd names", label, member, refused=words)
    for label, raw, found in (
        ("a null byte", b"a.png\0../../x", "a.png"),
        ("a null byte first", b"\0a.png", None),
        ("no name", b"", None),
        ("no UTF-8", b"\xff\xfe.png", None),
    ):
        refused = "" if found is None else None
        files = {found: GOOD} if found else None
        yield one("zip: odd names", label, Member(raw), refused=refused, files=files)
    extra = b"\1" + struct.pack("<I", zlib.crc32(b"a.png")) + b"../x.png"
    unicode_path = struct.pack("<HH", 0x7075, len(extra)) + extra
    yield one("zip: odd names", "Unicode path", Member(b"a.png", extra=unicode_path), files=None)
    other = Member(b"a.png", local_name=b"../b.png")
    yield one("zip: odd names", "two names of a member", other, refused="cannot be unpacked")


def _links() -> Iterator[Case]:
    kind = "zip: links and devices"
    for target in names.TARGETS:
        link = Member(b"link", target.encode(), mode=_LINK)
        through = Member(b"link/x.png")
        yield one(kind, f"to {target[:20]!r}", link, through, files={"link/x.png": GOOD})
    links = [Member(b"l%d" % i, b"l%d" % (i + 1), mode=_LINK) for i in range(50)]
    yield one(kind, "to links", *links, Member(b"l0/x.png"), files={"l0/x.png": GOOD})
    loop = Member(b"a", b"a", mode=_LINK)
    yield one(kind, "to itself", loop, Member(b"a/x.png"), files={"a/x.png": GOOD})
    over = (Member(b"x.png"), Member(b"x.png", b"../y.png", mode=_LINK))
    yield one(kind, "over a file", *over, files={"x.png": GOOD})
    for name, mode in (("pipe", 0o10666), ("character", 0o20666), ("block", 0o60666)):
        device = Member(name.encode(), b"", mode=mode)
        yield one(kind, name, device, Member(b"x.png"), files={"x.png": GOOD})
    yield one(kind, "socket", Member(b"s", mode=0o140777), files={})
    yield one(kind, "folder that is a file", Member(b"d", mode=0o40755), files={})
    yield one(kind, "set user id", Member(b"x.png", mode=0o104777))


def _twice() -> Iterator[Case]:
    for label, pair, files in names.TWICE:
        members = [Member(n.encode(), b"%d" % i) for i, n in enumerate(pair)]
        refused = "cannot be unpacked" if files is None else None
        yield one("zip: the same name twice", label, *members, refused=refused, files=files)


def _sizes() -> Iterator[Case]:
    content = bytes(range(256)) * 40
    for method, label in ((0, "stored"), (8, "deflate"), (12, "bzip2"), (14, "lzma")):
        for size in (0, 1, len(content) - 1, len(content) + 1, 10**6, _MAX4 - 1):
            member = Member(b"a.png", content, method, size=size)
            yield one("zip: sizes that lie", f"{label} of {size}", member, refused="")
        for size in (0, 5):
            member = Member(b"a.png", content, method, packed_size=size)
            yield one("zip: sizes that lie", f"{label} in {size}", member, refused="")
        member = Member(b"a.png", content, method, packed_size=len(content) + 10**6)
        yield one("zip: sizes that lie", f"{label} in more than the file", member, files=None)
        member = Member(b"a.png", content, method, crc=1)
        yield one("zip: sizes that lie", f"{label} of another checksum", member, refused="")
        member = Member(b"a.png", content, method, packed=b"\xff" * 300)
        yield one("zip: damaged members", f"{label} of 0xff", member, refused="")
        whole = Member(b"a.png", content, method).body
        for share in (2, 3):
            member = Member(b"a.png", content, method, packed=whole[: len(whole) // share])
            yield one("zip: damaged members", f"a part of {label}, {share}", member, refused="")
    for label, sizes in (
        ("of 2^63", struct.pack("<Q", 2**63)),
        ("of 2^64 - 1", struct.pack("<Q", _MAX8)),
        ("cut off", struct.pack("<I", 7)),
    ):
        extra = struct.pack("<HH", 1, len(sizes)) + sizes
        member = Member(b"a.png", size=_MAX4, extra=extra)
        yield one("zip: lies of zip64", label, member, refused="")
    extra = struct.pack("<HHQ", 1, 8, _MAX8)
    for label, member in (
        ("far away", Member(b"a.png", offset=_MAX4, extra=extra)),
        ("longer than it is", Member(b"a.png", size=_MAX4, extra=struct.pack("<HHQ", 1, 999, 1))),
        ("without its extra", Member(b"a.png", size=_MAX4)),
    ):
        yield one("zip: lies of zip64", label, member, refused="")
    for label, values, words in (
        ("a list of 2^63 bytes", (1, 2**63, 0), "lists more than"),
        ("2^64 - 1 entries of no bytes", (_MAX8, 0, 0), None),
        ("a list far away", (1, 51, _MAX8), ""),
    ):
        yield one(
            "zip: lies of zip64", label, Member(b"a.png"), zip64=values, refused=words, files=None
        )


def _methods() -> Iterator[Case]:
    kind = "zip: other compressions"
    for method in (1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 13, 16, 18, 19, 20, 93, 94, 95, 96, 97, 98, 99):
        member = Member(b"a.png", GOOD, method, packed=GOOD)
        yield one(kind, str(method), member, refused="cannot be unpacked")
    for label, flags, words in (
        ("by a password", 1, "encrypted"),
        ("strongly", 0x41, "encrypted"),
        ("strongly, it says", 0x40, "cannot be unpacked"),
        ("patched data", 0x20, "cannot be unpacked"),
    ):
        member = Member(b"a.png", flags=flags)
        yield one("zip: encrypted", label, member, refused=words)
    member = Member(b"a.png", GOOD, 99, packed=GOOD, flags=1)
    yield one("zip: encrypted", "AES", member, refused="encrypted")
    for label, head in (
        ("no properties", struct.pack("<HHBI", 9, 0, 93, 1 << 20)),
        ("lc of 255", struct.pack("<HHBI", 9, 5, 255, 1 << 20)),
        ("lc and lp of 8", struct.pack("<HHBI", 9, 5, 44, 1 << 20)),
        ("cut off", b"\t\0\5"),
    ):
        member = Member(b"a.png", GOOD, 14, packed=head + bytes(50))
        yield one("zip: damaged members", f"lzma of {label}", member, refused="cannot be unpacked")


def _lists() -> Iterator[Case]:
    kind, two = "zip: damaged lists", (Member(b"a.png"), Member(b"b.png"))
    whole = Zip(two).bytes()
    start = whole.index(b"PK\1\2")
    for at in sorted({*range(4, len(whole) - 1, 12), start, len(whole) - 22}):
        yield Case(kind, f"cut at {at}", functools.partial(whole.__getitem__, slice(at)), "")
    for at in range(start, len(whole) - 22, 9):
        build = functools.partial(b"".join, (whole[:at], whole[at + 5 :]))
        yield Case(kind, f"without 5 bytes at {at}", build)
    yield one(kind, "a list of no bytes", *two, list_size=0, refused=None, files=None)
    yield one(kind, "a list longer than the file", *two, list_size=10**6, refused="")
    yield one(kind, "a list of 4 GiB", *two, list_size=_MAX4 - 1, refused="")
    yield one(kind, "a list elsewhere", *two, list_at=7, refused=None, files=None)
    yield one(kind, "a list behind the file", *two, list_at=10**6, refused="")
    yield one(kind, "other numbers of entries", *two, count=0)
    yield one(kind, "65,535 entries, it says", *two, count=65_535)
    yield one(kind, "behind a program", *two, before=b"\x7fELF" + bytes(5000))
    end = Zip(()).bytes()
    yield one(kind, "a comment that is an end", *two, comment=end, refused=None, files=None)
    yield one(kind, "a comment of 65,535 bytes", *two, comment=b"c" * 65_535)
    for label, member in (
        ("that begins in the list", Member(b"a.png", offset=start)),
        ("that begins behind the file", Member(b"a.png", offset=10**6)),
        ("of an extra without end", Member(b"a.png", extra=b"\x99\x99\xff\xff")),
    ):
        yield one(kind, f"a member {label}", member, refused="cannot be unpacked")


def _bombs() -> Iterator[Case]:
    kind, zeros = "zip: bombs", bytes(8 << 20)
    inner = Zip((Member(b"b.png", zeros, 8),)).bytes()
    for _ in range(3):
        inner = Zip(tuple(Member(b"%d.zip" % i, inner, 8) for i in range(10))).bytes()
    last = Zip((Member(b"0.zip", inner, 8),)).bytes()
    yield Case(kind, "zips in zips", lambda: last, None, {"0.zip": inner})
    for method, label in ((8, "deflate"), (12, "bzip2"), (14, "lzma")):
        small = Member(b"a.png", zeros, method, size=70)
        yield one(kind, f"{label} of 8 MiB, 70 bytes it says", small, refused="")
        whole = Member(b"a.png", zeros, method)
        yield one(kind, f"{label} of 8 MiB", whole)
    body = Member(b"a.png", zeros, 8)
    for times in (140, 10_000):
        same = [
            Member(b"%05d.png" % i, b"", 8, b"", len(zeros), len(body.body), offset=0)
            for i in range(times)
        ]
        yield one(
            kind, f"{times} names of a member", body, *same, refused="unpacks to more than 1024 MiB"
        )
    two = (Member(b"a.png", GOOD * 9), Member(b"b.png", GOOD * 9, packed=b"", offset=0))
    yield one(kind, "two members in one place", *two, refused="")
    many = tuple(Member(b"%05d.png" % i, b"x") for i in range(3000))
    yield one(kind, "3,000 entries", *many)
    more = functools.cache(lambda: [Member(b"%06d.png" % i, b"x") for i in range(100_000)])
    yield Case(
        kind,
        "100,000 entries",
        lambda: Zip(tuple(more())).bytes(),
        None,
        {f"{i:06d}.png": b"x" for i in range(100_000)},
        seconds=120,
        mib=256,
        slow=True,
    )
