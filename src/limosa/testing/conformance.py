"""
The suite that a connector passes before a migration may trust it.

    class TestMine(ConnectorConformance):
        @pytest.fixture
        def subject(self) -> Subject:
            return Subject(source, target, application, Namespace("conformance", "c"))

For readable failures let a ``conftest.py`` say
``pytest.register_assert_rewrite("limosa.testing")``.
"""

from __future__ import annotations

import pytest

from .optional import OptionalConformance
from .reading import ReadingConformance
from .streaming import StreamingConformance
from .subject import Application, Subject
from .writing import WritingConformance

__all__ = ["Application", "ConnectorConformance", "Subject"]


class ConnectorConformance(
    ReadingConformance, StreamingConformance, WritingConformance, OptionalConformance
):
    """Override `subject` in a subclass whose name begins with ``Test``."""

    @pytest.fixture
    def subject(self) -> Subject:
        """Give a source, a target and an application, new for each test."""
        raise NotImplementedError
