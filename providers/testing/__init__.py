"""The contract every adapter must keep, as tests that its author can run. Needs pytest, as nothing else here does."""

import pytest

# Before anything imports them: a failing assert in a shipped module then shows its values, as one in a test file does.
pytest.register_assert_rewrite(f"{__name__}.behaviours", f"{__name__}.harness")
