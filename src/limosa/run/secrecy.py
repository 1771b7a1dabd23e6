"""What must never be told, taken out of what others say."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

#: Anything shorter is found in ordinary words.
_SHORTEST = 4


@dataclass(frozen=True, slots=True)
class Secrets:
    """Texts that `hidden` takes out, the longest first."""

    texts: tuple[str, ...] = field(default=(), repr=False)

    @classmethod
    def of(cls, told: Iterable[str], values: Iterable[str] = ()) -> Secrets:
        """Take whole addresses, the passwords in them, and those of *values* they are made of."""
        whole = [text for text in told if text]
        parts = {p for text in whole for p in _credentials(text)}
        parts |= {value for value in values if any(value in text for text in whole)}
        found = {t for t in {*whole, *parts} if len(t) >= _SHORTEST}
        return cls(tuple(sorted(found, key=len, reverse=True)))

    def hidden(self, text: str) -> str:
        """Return *text* with ``***`` in place of every secret."""
        for secret in self.texts:
            text = text.replace(secret, "***")
        # Greedy up to the last @, because people forget to escape those in passwords.
        return re.sub(r"://[^\s'\"]*@", "://***@", text)


def _credentials(address: str) -> Iterable[str]:
    try:
        parts = urlsplit(address)
        password = parts.password
    except ValueError:
        return  # no address that can be taken apart; the whole of it is hidden
    if password:
        yield password
        yield unquote(password)
