"""Address: where an endpoint is, and under which name the environment holds its key."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from turnout.training.errors import CallsMisused


@dataclass(frozen=True, slots=True)
class Address:
    """Where an endpoint is, and how to get in.

    Attributes:
        url: such as `https://api.openai.com/v1`.
        key_env: name of the environment variable with the API key; empty where none is needed.
        timeout_s: for one request.
    """

    url: str
    key_env: str = "OPENAI_API_KEY"
    timeout_s: float = 120.0

    @property
    def place(self) -> str:
        """Return host, port and path: what of the URL can change an answer."""
        parts = urlsplit(self.url)
        return f"{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path.rstrip('/')}"

    def check(self) -> None:
        """Refuse a URL that is none, or that holds a password: it would be shown in messages.

        Raises:
            CallsMisused: the URL is not of the form http(s)://HOST[:PORT]/PATH.
        """
        try:
            parts = urlsplit(self.url)
            is_plain = bool(parts.scheme in {"http", "https"} and parts.hostname and (parts.port is None or parts.port))
        except ValueError:
            is_plain = False
        if not is_plain or "@" in parts.netloc or parts.query:
            raise CallsMisused(
                "the endpoint's URL must be http(s)://HOST[:PORT]/PATH without user, password or query; "
                "the key comes from the environment"
            )
