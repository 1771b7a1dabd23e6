"""What is known of each collection of a migration, by identity and by name."""

from __future__ import annotations

import threading

from .model import Namespace
from .state import CollectionProgress
from .storage import StateStore

#: Collections at hand. Of 100,000 few are busy at a time, and to look one up takes 50 µs.
_KEPT = 5_000


class Registry:
    """Looks collections up by identity and by name, for threads of one process that drives."""

    def __init__(self, store: StateStore) -> None:
        self._store = store
        # Held while the state is read: what another thread saves meanwhile is not to be missed.
        self._lock = threading.Lock()
        self._kept: dict[str, CollectionProgress | None] = {}

    def get(self, collection_id: str) -> CollectionProgress | None:
        """Return the collection with this identity, if it is part of the migration."""
        with self._lock:
            if collection_id in self._kept:
                return self._kept[collection_id]
            found = self._store.collection(collection_id)
            self._keep(collection_id, found)
            return found

    def on_source(self, namespace: Namespace) -> list[CollectionProgress]:
        """Return what is not dropped and has this name on the source."""
        return self._store.collections_at(namespace)

    def on_target(self, namespace: Namespace) -> list[CollectionProgress]:
        """Return what is not dropped and has this name on the target."""
        return self._store.collections_at(namespace, at_target=True)

    def save(self, progress: CollectionProgress) -> None:
        """Store *progress* in place of what was known of the collection."""
        with self._lock:
            self._kept.pop(progress.spec.collection.id, None)
            self._store.save_collection(progress)
            self._keep(progress.spec.collection.id, progress)

    def forget(self) -> None:
        """Look everything up anew: the plan was replaced."""
        with self._lock:
            self._kept.clear()

    def _keep(self, collection_id: str, progress: CollectionProgress | None) -> None:
        if len(self._kept) >= _KEPT:
            self._kept.clear()
        self._kept[collection_id] = progress
