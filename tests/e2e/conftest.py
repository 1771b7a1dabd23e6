from __future__ import annotations

import pytest

pytest.register_assert_rewrite("judge", "managed", "program", "in_process", "waiting")
