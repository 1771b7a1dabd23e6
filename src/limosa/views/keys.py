"""Keys as programs and people read them."""

from __future__ import annotations

import json
from typing import Any

import bson
from bson.codec_options import DatetimeConversion
from bson.errors import InvalidBSON
from bson.json_util import CANONICAL_JSON_OPTIONS, dumps

from ..model import Key

#: Dates that Python's datetime cannot hold stay milliseconds.
_OPTIONS = CANONICAL_JSON_OPTIONS.with_options(
    datetime_conversion=DatetimeConversion.DATETIME_AUTO, document_class=dict
)


def key_value(key: Key) -> Any:
    """
    Return the ``_id`` as a value that JSON can carry: canonical extended JSON, whole.

    What cannot be decoded is ``{"$bson": "<hex of the key>"}``, so that nothing is lost.
    """
    try:
        value = bson.decode(key, _OPTIONS)["_id"]
        return json.loads(dumps(value, json_options=_OPTIONS))
    except (InvalidBSON, KeyError, ValueError, OverflowError, RecursionError):
        return {"$bson": bytes(key).hex()}
