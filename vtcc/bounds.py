"""What hostile input may take at most: every bound that no parameter sets, in one place.

`vtcc params --explain` states them, docs/security.md says what each one stops. Beside them
`validate.max_pixels` bounds an image, and options of `vtcc api` bound one request.
"""

MIB = 1 << 20

# Images
BYTES_PER_PIXEL = 8  # of all bands: 16-bit colour with alpha
IMAGE_SIDE = 1 << 18
IMAGE_FILE_BYTES = 64 * MIB  # or BYTES_PER_PIXEL x max_pixels, where that is more
IMAGE_PARTS = 16_384
JPEG_SCANS = 32
EXIF_BYTES = 1 * MIB  # a number of two bytes takes 36 as an object
JPEG_JUNK_BYTES = 64 << 10  # Pillow goes through them one by one
JPEG_EXIF_SEGMENTS = EXIF_BYTES // (64 << 10)
PNG_DATA_BYTES = 256  # a shorter chunk of pixels counts as a part
HEIF_PIECES = 32
TIFF_TAG_BYTES = 16 * MIB  # of text; a number counts as 16

# RAW files and films, in a process of its own
CAMERA_BYTES = 1536 * MIB  # beside what its libraries take
CAMERA_SECONDS = 20  # of processor time for a file
CAMERA_PATIENCE = 900  # seconds of any time: machines are shared
CAMERA_PREVIEW_BYTES = 64 * MIB  # of a JPEG in a RAW file

# Archives
ARCHIVE_RATIO = 100
ARCHIVE_FREE_BYTES = 1024 * MIB
ARCHIVE_ENTRIES = 2_000_000
ARCHIVE_ENTRY_BYTES = 4096  # a block of a file system
ARCHIVE_DEPTH = 64
TAR_HEADER_BYTES = 1 * MIB
TAR_HEADERS = 16
TAR_COMMON_KEYS = 64
TAR_RECORDS = 1024
TAR_DIGITS = 256
DICTIONARY_BYTES = 128 * MIB

# Copies of what is at an address: that of an image has DATASET_FILE_BYTES
COPIED_BYTES = 200 * 1024 * MIB

# Files of data sets
DATASET_FILE_BYTES = 2048 * MIB
EXPANDED_BYTES = 64 * MIB
CELL_BYTES = 64  # of a table of paths, beside the characters of a text

# Requests to `vtcc api`
REQUESTS_BYTES = 256 * MIB  # of the bodies that are held at a time
REQUEST_FREE_BYTES = 256 << 10  # a smaller body does not count, so that it never waits
REQUEST_PATIENCE = 5  # seconds that a body waits for room
# Until a body is there; to read an answer. Less than MLflow takes to make one.
REQUEST_SECONDS = 50
REQUEST_PAUSE = 10  # seconds until a head is there, or the next bytes of a body:
REQUEST_PROGRESS = 10 << 10
CONNECTIONS = 256


def image_file_bytes(max_pixels: int) -> int:
    """Bytes that the file of an image may have, where its reader takes it as a whole."""
    return max(IMAGE_FILE_BYTES, BYTES_PER_PIXEL * max_pixels)


def unpacked_bytes(size: int) -> int:
    """Bytes that an archive may unpack to.

    Args:
        size: of the archive. Photos hardly compress: one that grows a hundredfold is a trap.
    """
    return max(ARCHIVE_FREE_BYTES, ARCHIVE_RATIO * size)


def expanded_bytes(size: int) -> int:
    """Bytes that a compressed file of a data set, or a table of paths, may hold.

    Args:
        size: of the file.
    """
    return max(EXPANDED_BYTES, ARCHIVE_RATIO * size)


def requests_bytes(largest: int) -> int:
    """Bytes that the bodies of all requests may have that are held at a time.

    Args:
        largest: of one request.
    """
    return max(REQUESTS_BYTES, largest)


IN_WORDS = (
    (
        "an image",
        f"at most validate.max_pixels pixels and {BYTES_PER_PIXEL} bytes per pixel in all bands, "
        f"of a TIFF's tile too; a side of at most {IMAGE_SIDE} pixels; all images that are decoded "
        "at a time together have at most validate.max_pixels pixels",
    ),
    (
        "the file of an image",
        f"at most {IMAGE_FILE_BYTES // MIB} MiB, or {BYTES_PER_PIXEL} x validate.max_pixels where "
        "that is more; a TIFF may be larger, as only its first picture is read; at most "
        f"{IMAGE_PARTS} segments, chunks or blocks beside the pixels, chunks of pixels with less "
        f"than {PNG_DATA_BYTES} bytes counted; EXIF longer than {EXIF_BYTES // MIB} MiB is not "
        "read",
    ),
    (
        "a JPEG",
        f"at most {JPEG_EXIF_SEGMENTS} segments of EXIF, {JPEG_JUNK_BYTES >> 10} KiB that belong "
        "to no segment before its pixels; its scans together have at most "
        f"{JPEG_SCANS} x validate.max_pixels pixels",
    ),
    (
        "a HEIC or AVIF",
        "validate.max_pixels counts for each picture inside, before it is cut; the pieces of one "
        f"have at most {HEIF_PIECES} x validate.max_pixels pixels together",
    ),
    (
        "a TIFF",
        f"at most {TIFF_TAG_BYTES // MIB} MiB of text or {TIFF_TAG_BYTES // 16} numbers in the "
        f"tags that describe the picture; its parts have at most {BYTES_PER_PIXEL} x "
        "validate.max_pixels bytes",
    ),
    (
        "a RAW file or film",
        f"its decoder takes at most {CAMERA_BYTES // MIB} MiB and {CAMERA_SECONDS} s of processor "
        f"time, {CAMERA_PATIENCE} s of any time; a preview of at most "
        f"{CAMERA_PREVIEW_BYTES // MIB} MiB; validate.max_pixels counts for the preview or frame",
    ),
    (
        "an archive",
        f"unpacks to at most {ARCHIVE_FREE_BYTES // MIB} MiB, or {ARCHIVE_RATIO} times its size "
        f"where that is more, each file of it counted with at least {ARCHIVE_ENTRY_BYTES} bytes; "
        f"at most {ARCHIVE_ENTRIES} files in a zip or rows in Parquet; paths of at most "
        f"{ARCHIVE_DEPTH} parts; dictionaries of LZMA of at most {DICTIONARY_BYTES // MIB} MiB",
    ),
    (
        "a tar",
        f"at most {TAR_HEADERS} headers and {TAR_HEADER_BYTES // MIB} MiB of them for a file, "
        f"{TAR_RECORDS} records in one, numbers of at most {TAR_DIGITS} digits, "
        f"{TAR_COMMON_KEYS} keys that all files share",
    ),
    (
        "a file of arrays (idx, MATLAB, CIFAR's)",
        f"at most {DATASET_FILE_BYTES // MIB} MiB; holds at most {EXPANDED_BYTES // MIB} MiB, or "
        f"{ARCHIVE_RATIO} times its size where that is more",
    ),
    (
        "images at an address",
        f"at most {ARCHIVE_ENTRIES} names and {COPIED_BYTES // MIB} MiB in all; an image of at "
        f"most {DATASET_FILE_BYTES // MIB} MiB",
    ),
    (
        "a table of paths in Parquet",
        f"at most {ARCHIVE_ENTRIES} rows; holds at most {EXPANDED_BYTES // MIB} MiB, or "
        f"{ARCHIVE_RATIO} times its size where that is more, each cell counted as its text and "
        f"{CELL_BYTES} bytes",
    ),
    (
        "requests to `vtcc api`",
        f"the bodies that are held at a time have at most {REQUESTS_BYTES // MIB} MiB together, or "
        f"--max-mib where that is more, those of at most {REQUEST_FREE_BYTES >> 10} KiB not "
        "counted; what of a body has come waits at most "
        f"{REQUEST_PATIENCE} s for room; a body is there after {REQUEST_SECONDS} s, and each "
        f"{REQUEST_PAUSE} s bring {REQUEST_PROGRESS >> 10} KiB of it; reading of an answer takes "
        f"{REQUEST_SECONDS} s at most, the head of a request {REQUEST_PAUSE} s; at most "
        f"{CONNECTIONS} connections",
    ),
)
