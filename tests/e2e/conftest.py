from __future__ import annotations

import pytest

pytest.register_assert_rewrite("judge", "program", "in_process", "waiting")
