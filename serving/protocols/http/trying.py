"""`GET /`: a page to try a prompt; and `POST /v1/words`, what it asks beside the calls of other callers.

Nothing in; the page out, the same for everybody: what it shows it asks for itself, behind the tokens. It is one file,
and may load nothing: its policy names its style and its script by their digests, and nothing else may run.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from functools import cache
from pathlib import Path

import msgspec
from starlette.responses import Response

from turnout.serving.bundles.bundle import GRAPH, Bundle, read_file_of
from turnout.serving.errors import InvalidRequest
from turnout.serving.router.prompt import clean_text, prompt_from_text
from turnout.serving.router.strange_words import Strangeness, StrangeWords

PAGE = Path(__file__).with_name("try.html")


class Words(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a request: a text, and the bundle to ask, empty for the default one."""

    text: str
    bundle: str = ""


class Unlike(msgspec.Struct, frozen=True):
    """The answer; `limit` is None where the bundle calls no prompt unlike its training by its words.

    Attributes:
        bundle: that was asked.
        rare_share, limit, words, pairs: of `serving.router.strange_words`.
    """

    bundle: str
    rare_share: float = 0.0
    limit: float | None = None
    words: list[str] = []
    pairs: list[str] = []


_decode = msgspec.json.Decoder(Words).decode


@cache
def try_page() -> Response:
    """Return the page."""
    raw = PAGE.read_bytes()
    sources = {tag: _digest(raw, tag) for tag in (b"style", b"script")}
    policy = (
        f"default-src 'none'; style-src '{sources[b'style']}'; script-src '{sources[b'script']}'; connect-src 'self'; "
        "form-action 'none'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    )
    headers = {
        "content-security-policy": policy,
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cross-origin-opener-policy": "same-origin",
        "cache-control": "no-cache",
    }
    return Response(raw, headers=headers, media_type="text/html")


def _digest(raw: bytes, tag: bytes) -> str:
    (inside,) = re.findall(b"<%b>(.*?)</%b>" % (tag, tag), raw, re.DOTALL)
    return f"sha256-{base64.b64encode(hashlib.sha256(inside).digest()).decode()}"


def read_words(body: bytes) -> Words:
    """Return what a JSON body asks.

    Raises:
        InvalidRequest: another shape; the message quotes no value.
    """
    try:
        return _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise InvalidRequest("expected {text: text, bundle: name of a bundle or nothing}") from None


class WordsDesk:
    """Answers what is strange in a text. Belongs to one event loop; keeps the rule of the bundle asked last."""

    def __init__(self) -> None:
        """Begin with none."""
        self._of = ""
        self._rule: StrangeWords | None = None

    async def answer(self, text: str, bundle: Bundle) -> Unlike:
        """Look at a text on a thread; raises `BundleRefused` where the graph on the disk is not the one served."""
        if self._of != bundle.manifest.bundle_id:
            raw = await asyncio.to_thread(read_file_of, bundle, GRAPH)
            self._rule = await asyncio.to_thread(StrangeWords.of, raw)
            self._of = bundle.manifest.bundle_id
        if self._rule is None:
            return Unlike(bundle.manifest.bundle_id)
        found = await asyncio.to_thread(self._look, self._rule, text, bundle)
        return Unlike(bundle.manifest.bundle_id, found.rare_share, found.limit, found.words, found.pairs)

    @staticmethod
    def _look(rule: StrangeWords, text: str, bundle: Bundle) -> Strangeness:
        return rule.look(bundle.model.featurize, prompt_from_text(clean_text(text)))
