"""Files by name: from the names in a table to the files of a folder.

    index = FileIndex(["train/patient1/study1/view1.jpg", …])
    index.find("CheXpert/train/patient1/study1/view1.jpg")  # 0

A name may have more folders in front than the file, or fewer, and may lack the extension.
"""

import functools
from collections.abc import Sequence

from trainer.data.tables import path_key


class FileIndex:
    """Positions of files by the ends of their paths.

    Args:
      filenames: [n] str, paths relative to one folder, with forward slashes.
    """

    def __init__(self, filenames: Sequence[str]):
        self.filenames = filenames
        self._keys = [path_key(filename) for filename in filenames]
        self._depth = max((key.count("/") + 1 for key in self._keys), default=0)

    def find(self, name: str) -> int | None:
        """Finds the file with the longest common end; None without one, or with several."""
        levels = path_key(name).split("/")
        return self._longest(levels, stems=False) if levels != [""] else None

    def find_stem(self, name: str) -> int | None:
        """Finds a file as `find` does, whatever the extensions."""
        levels = path_key(name).split("/")
        if levels == [""]:
            return None
        return self._longest([*levels[:-1], _stem(levels[-1])], stems=True)

    def _longest(self, levels: list[str], stems: bool) -> int | None:
        for depth in range(min(len(levels), self._depth), 0, -1):
            position = self._by_end(depth, stems).get("/".join(levels[-depth:]))
            if position is not None:
                return None if position < 0 else position
        return None

    @functools.cache  # noqa: B019 - an index lives as long as the reading of one folder
    def _by_end(self, depth: int, stems: bool) -> dict[str, int]:
        # End of this many levels → position; -1 where several files have it.
        ends: dict[str, int] = {}
        for position, key in enumerate(self._keys):
            levels = key.rsplit("/", depth)
            if len(levels) < depth:
                continue
            name = _stem(levels[-1]) if stems else levels[-1]
            end = "/".join([*levels[len(levels) - depth : -1], name])
            ends[end] = position if ends.get(end, position) == position else -1
        return ends


def _stem(name: str) -> str:
    stem, dot, extension = name.rpartition(".")
    # A dot may belong to the name, as in 1.2.840.10008.
    return stem if dot and stem and not extension.isdigit() else name
