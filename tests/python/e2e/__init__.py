"""Real servers and real sockets: what an application does with its limits, it does without them."""

import pytest

pytest.register_assert_rewrite("e2e.server")
