"""`turnout key` and `turnout token`: what signs bundles, and what callers show the server."""

from __future__ import annotations

from pathlib import Path

from turnout.serving.access.tokens import new_token_lines
from turnout.serving.bundles import signing


def new_key(name: Path, /) -> None:
    """Make an Ed25519 key pair for signing bundles.

    Args:
        name: Writes NAME.key (keep it secret) and NAME.pub.
    """
    for path in signing.new_key(name):
        print(path)


def new_token(name: str, /) -> None:
    """Make a bearer token: printed once and kept nowhere; the tokens file gets the lines, with its digest only.

    Args:
        name: Who is to get it; stands in refusals and in the tokens file.
    """
    token, lines = new_token_lines(name)
    print(f"# token, shown only here: {token}")
    print(lines)
