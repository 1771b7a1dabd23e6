"""The suite is part of the package, so pytest must be told to explain its assertions."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("limosa.testing")
