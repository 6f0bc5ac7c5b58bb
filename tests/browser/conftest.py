"""One browser for all tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.browser.browser import Browser


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A fresh profile, headless; it takes a second or two to start."""
    found = Browser()
    yield found
    found.quit()
