"""The first bytes of a DICOM file, with a preamble or without.

    dicom_head.recognize(head)  # True

Importing it is light: no pydicom.
"""

import re
import struct

_VALUE_REPRESENTATIONS = frozenset(
    b"AE AS AT CS DA DS DT FD FL IS LO LT OB OD OF OL OV OW PN SH SL SQ SS ST SV TM UC UI UL UN UR "
    b"US UT UV".split()
)
# PS3.5, 7.1.2: their length has 4 bytes, after 2 that are reserved.
_LONG = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_UNDEFINED_LENGTH = 0xFFFFFFFF
_MAX_LENGTH = 2**16  # Bytes of one of the first values.
_MIN_ELEMENTS = 3
_FIRST_GROUPS = (0x0002, 0x0008)  # Of the file's meta information, and of the data set.
_TEXT = re.compile(rb"[\t\n\f\r\x1b\x20-\x7e\x80-\xff]*\0?")
# Media Storage Directory Storage (PS3.4, I.4); other identifiers may go on.
_DIRECTORY = re.compile(rb"1\.2\.840\.10008\.1\.3\.10(?![\d.])")


def recognize(head: bytes) -> bool:
    """Tells whether the first bytes of a file are those of a DICOM file.

    Without the preamble (PS3.10, 7.1) three data elements in a row must be plausible.

    Args:
      head: the first kilobyte of the file.
    """
    if head[128:132] == b"DICM":
        return True
    return _count_elements(head, "<") >= _MIN_ELEMENTS or _count_elements(head, ">") >= (
        _MIN_ELEMENTS
    )


def is_directory(head: bytes) -> bool:
    """Tells whether a DICOM file is a DICOMDIR, the index of a disc."""
    return _DIRECTORY.search(head[:1024]) is not None


def _count_elements(head: bytes, order: str) -> int:
    """Counts the plausible data elements at the start, at most `_MIN_ELEMENTS`."""
    position = 0
    previous = (0, 0)
    for count in range(_MIN_ELEMENTS):
        if position + 12 > len(head):
            return count
        tag = struct.unpack_from(f"{order}HH", head, position)
        header, length, explicit = _parse_length(head, position, order)
        if tag <= previous or (count == 0 and tag[0] not in _FIRST_GROUPS):
            return 0
        if length % 2 or length > _MAX_LENGTH:
            return 0
        value = head[position + header : position + header + length]
        # The length of a group is a number, and all numbers of these groups have four bytes.
        is_number = tag[1] == 0 and length == 4
        if not explicit and (order == ">" or not (is_number or _TEXT.fullmatch(value))):
            return 0
        position += header + length
        previous = tag
    return _MIN_ELEMENTS


def _parse_length(head: bytes, position: int, order: str) -> tuple[int, int, bool]:
    # (bytes of the header, of the value, whether the value representation is explicit).
    representation = head[position + 4 : position + 6]
    if representation not in _VALUE_REPRESENTATIONS:
        return 8, struct.unpack_from(f"{order}I", head, position + 4)[0], False
    if representation not in _LONG:
        return 8, struct.unpack_from(f"{order}H", head, position + 6)[0], True
    length = struct.unpack_from(f"{order}I", head, position + 8)[0]
    return 12, 0 if length == _UNDEFINED_LENGTH else length, True
