"""MongoDB does what the contract says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
from bson import encode
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient
from pymongo.write_concern import WriteConcern

from limosa.canonical import id_in, key_for, key_of
from limosa.connectors.mongodb import CONNECTOR
from limosa.model import Namespace
from limosa.testing.conformance import ConnectorConformance, Subject

_DUPLICATE_KEY = 11000
_BATCH = 1_000  # documents; few enough that small ones fit into one command
_ANY_DATE: CodecOptions[dict[str, Any]] = CodecOptions(
    datetime_conversion=DatetimeConversion.DATETIME_AUTO
)


class Application:
    """Writes with the driver, with majority."""

    def __init__(self, client: MongoClient[dict[str, Any]]) -> None:
        self._client = client

    def put(self, namespace: Namespace, *documents: Mapping[str, Any]) -> None:
        raw = [RawBSONDocument(encode(document)) for document in documents]
        for start in range(0, len(raw), _BATCH):
            batch = raw[start : start + _BATCH]
            reply = self._write(namespace, "insert", "documents", batch)
            failed = reply.get("writeErrors", [])
            assert {e["code"] for e in failed} <= {_DUPLICATE_KEY}
            known = [batch[e["index"]] for e in failed]
            replaced = [{"q": RawBSONDocument(key_of(bytes(d.raw))), "u": d} for d in known]
            if replaced:
                assert "writeErrors" not in self._write(namespace, "update", "updates", replaced)

    def delete(self, namespace: Namespace, *ids: object) -> None:
        self._collection(namespace).delete_many(id_in(key_for(i) for i in ids))

    def create(self, namespace: Namespace) -> None:
        self._client[namespace.database].create_collection(namespace.collection)

    def drop(self, namespace: Namespace) -> None:
        self._collection(namespace).drop()

    def rename(self, namespace: Namespace, to: Namespace, *, replace: bool = False) -> None:
        self._client.admin.command(
            {"renameCollection": str(namespace), "to": str(to), "dropTarget": replace}
        )

    def create_index(self, namespace: Namespace, **index: Any) -> None:
        self._client[namespace.database].command(
            {"createIndexes": namespace.collection, "indexes": [index]}
        )

    def define(self, view: Namespace, reads: Namespace) -> None:
        self._collection(view).drop()
        self._client[view.database].create_collection(
            view.collection, viewOn=reads.collection, pipeline=[{"$match": {"_id": 1}}]
        )

    def drop_index(self, namespace: Namespace, name: str) -> None:
        self._collection(namespace).drop_index(name)

    def _write(
        self, namespace: Namespace, command: str, field: str, items: Sequence[Mapping[str, Any]]
    ) -> dict[str, Any]:
        # By command, as the driver's bulk writes fail on a date that Python cannot hold when
        # it comes back in an error.
        return self._client[namespace.database].command(
            {
                command: namespace.collection,
                field: items,
                "ordered": False,
                "writeConcern": {"w": "majority"},
            },
            codec_options=_ANY_DATE,
        )

    def _collection(self, namespace: Namespace) -> Any:
        majority = WriteConcern("majority")
        return self._client[namespace.database].get_collection(
            namespace.collection, write_concern=majority
        )


class TestMongo(ConnectorConformance):
    @pytest.fixture
    def subject(self, ends: Any) -> Iterator[Subject]:
        namespace = Namespace("conformance", "c")
        source = CONNECTOR.open_source(ends.source.uri)
        target = CONNECTOR.open_target(ends.target.uri)
        application = Application(ends.source.client)
        yield Subject(
            source,
            target,
            application,
            namespace,
            {"validationLevel": "moderate"},
            application.define,
        )
        source.close()
        target.close()
