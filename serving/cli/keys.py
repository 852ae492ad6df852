"""`turnout key` and `turnout token`: what signs bundles, and what callers show the server."""

from __future__ import annotations

from pathlib import Path

from turnout.serving.access.tokens import new_token_lines
from turnout.serving.bundles import signing
from turnout.serving.cli.options import AsJson, say


def new_key(name: Path, /, *, as_json: AsJson = False) -> None:
    """Make an Ed25519 key pair for signing bundles.

    Args:
        name: Writes NAME.key (keep it secret) and NAME.pub.
    """
    private, public = signing.new_key(name)
    say(f"{private}\n{public}", {"private": private, "public": public}, as_json=as_json)


def new_token(name: str, /, *, as_json: AsJson = False) -> None:
    """Make a bearer token: printed once and kept nowhere; the tokens file gets the lines, with its digest only.

    Args:
        name: Who is to get it; stands in refusals and in the tokens file.
    """
    token, lines = new_token_lines(name)
    say(f"# token, shown only here: {token}\n{lines}", {"token": token, "lines": lines}, as_json=as_json)
