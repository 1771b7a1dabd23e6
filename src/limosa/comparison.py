"""Comparing documents of both ends by their bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from itertools import zip_longest

from .canonical import key_of
from .model import Batch, Document, Key, MismatchKind

#: Stands for a document that one end does not have.
ABSENT = b""


def digest(document: Document | bytes | None) -> bytes:
    """Return 16 bytes that tell documents apart, or `ABSENT`."""
    if document is None:
        return ABSENT
    raw = document if isinstance(document, bytes) else document.raw
    return hashlib.blake2b(raw, digest_size=16).digest()


class Difference:
    """
    What two readings of the same part differ by, in whatever order they come.

    Batches that are equal as bytes cost one comparison; only where they are not are documents
    told apart. What is held is what one side has shown and the other not yet.
    """

    def __init__(self) -> None:
        self.compared = 0
        self._source: dict[Key, bytes] = {}
        self._target: dict[Key, bytes] = {}

    def read(self, source: Iterable[Batch], target: Iterable[Batch]) -> Iterator[None]:
        """Compare batch by batch; yields after each, for the caller to look up."""
        for one, other in zip_longest(source, target):
            if one is not None and other is not None and one.array == other.array:
                self.compared += one.count
            else:
                self.compared += self._add(one, self._source, self._target)
                self._add(other, self._target, self._source)
            yield

    def found(self) -> Iterator[tuple[MismatchKind, Key, bytes]]:
        """Yield each difference with the digest of the source's document."""
        for key, value in self._source.items():
            kind = MismatchKind.DIFFERENT if key in self._target else MismatchKind.MISSING
            yield kind, key, value
        for key in self._target:
            if key not in self._source:
                yield MismatchKind.EXTRA, key, ABSENT

    @staticmethod
    def _add(batch: Batch | None, own: dict[Key, bytes], others: dict[Key, bytes]) -> int:
        documents = batch.raw if batch is not None else []
        for document in documents:
            key, value = key_of(document), digest(document)
            if others.get(key) == value:
                del others[key]
            else:
                own[key] = value
        return len(documents)


def differing(
    keys: Iterable[Key], source: Mapping[Key, Document], target: Mapping[Key, Document]
) -> Iterator[tuple[MismatchKind, Key, bytes]]:
    """Yield each of *keys* that is not the same in both, with the source's digest."""
    for key in keys:
        one, other = source.get(key), target.get(key)
        if one is None and other is None:
            continue
        if one is None:
            yield MismatchKind.EXTRA, key, ABSENT
        elif other is None:
            yield MismatchKind.MISSING, key, digest(one)
        elif one.raw != other.raw:
            yield MismatchKind.DIFFERENT, key, digest(one)
