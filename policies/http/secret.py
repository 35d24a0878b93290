"""A key from the environment: sent, and never shown."""

from __future__ import annotations

import os

from search.errors import ConfigError

HIDDEN = "***"


class Secret:
    """The value of an environment variable; prints as the variable's name.

    Raises:
        ConfigError: the variable is named and not set, or its value cannot be a header.
    """

    __slots__ = ("_value", "name")

    def __init__(self, name: str | None):
        self.name = name
        self._value = os.environ.get(name, "").strip() if name else ""
        if name and not self._value:
            raise ConfigError("key_env", name, "this environment variable is not set: export it with the server's key")
        if not self._value.isascii() or not self._value.isprintable():
            raise ConfigError("key_env", name, "what it holds is not a key: it has signs that no header may have")

    def __repr__(self) -> str:
        return f"Secret({self.name!r})"

    def __reduce__(self) -> str:
        raise TypeError("a key is not written anywhere")

    def headers(self) -> dict[str, str]:
        """What authorises a request."""
        return {"Authorization": f"Bearer {self._value}"} if self._value else {}

    def hide(self, text: str) -> str:
        """`text` without the key: servers repeat it in their errors."""
        return text.replace(self._value, HIDDEN) if self._value else text
