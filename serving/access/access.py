"""Who may call what: checks the bearer token of every call before its handler, when a tokens file is given.

Metadata in, the handler or a refusal out. Health stays open, for orchestrators hold no token; all else
needs one, reflection too. As an interceptor it stands before every method, also those of later; a check
in each handler took as long (an echo on one connection, in turns, 21 tokens: 364 us without, 381 us with
a check in the handler, 380 us with the interceptor). Calls over HTTP are let in by the same `admit`.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from typing import Any

import grpc

from turnout.serving.access.tokens import LOOK_EVERY_S, Token, TokensFile
from turnout.serving.errors import PermissionRefused, TokenRefused
from turnout.serving.wire.route import SERVICE_NAME

AUTHORIZATION = "authorization"
SCHEME = "bearer"
"""In any case of letters, as RFC 9110 has it for every scheme."""
OPEN_PATHS = (
    "/grpc.health.v1.Health/",
    *(f"/inference.GRPCInferenceService/{name}" for name in ("ServerLive", "ServerReady", "ModelReady")),
)
"""Begin the methods that need no token."""
SERVICE_PATH = f"/{SERVICE_NAME}/"
STANDS_FOR = {
    "/envoy.service.ext_proc.v3.ExternalProcessor/Process": "Route",
    "/inference.GRPCInferenceService/ModelInfer": "Route",
    "/inference.GRPCInferenceService/ModelMetadata": "DescribeModel",
}
"""Methods of other protocols, and the method of ours that a token must be good for."""

_caller: ContextVar[Token | None] = ContextVar("caller", default=None)


class TokenGate(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpc has no types
    """Lets a call through to its handler when its token is known and good for the method."""

    def __init__(self, tokens: TokensFile) -> None:
        """Take the tokens that are let in."""
        self._tokens = tokens

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], details: Any) -> Any:
        """Return the handler of the call, or one that refuses it."""
        if details.method.startswith(OPEN_PATHS):
            return await continuation(details)
        shown = [value for key, value in details.invocation_metadata if key == AUTHORIZATION]
        try:
            token = admit(self._tokens, shown, method_of(details.method))
        except (TokenRefused, PermissionRefused) as refusal:
            return _refusing(refusal)
        handler = await continuation(details)
        if handler is None or not handler.request_streaming or not inspect.iscoroutinefunction(handler.stream_stream):
            return handler
        return self._ending_with(token, presented_in(shown), handler)

    def _ending_with(self, token: Token, presented: str, handler: Any) -> Any:
        """Return a handler of streams that ends when the token is taken out of the file, or its rights change."""

        async def watched(requests: Any, context: Any) -> None:
            answering = asyncio.ensure_future(handler.stream_stream(requests, context))
            try:
                while not (await asyncio.wait((answering,), timeout=LOOK_EVERY_S))[0]:
                    if self._tokens.find(presented) != token:
                        break
                else:
                    await answering
                    return
            finally:
                answering.cancel()
            await asyncio.wait((answering,))
            message = f"token {token.name} was revoked or changed; connect again"
            await context.abort(grpc.StatusCode[TokenRefused.code], message)

        return grpc.stream_stream_rpc_method_handler(watched, handler.request_deserializer, handler.response_serializer)


def method_of(path: str) -> str | None:
    """Return the method of RouterService that a token must be good for to call this path; None where any will do."""
    return path.removeprefix(SERVICE_PATH) if path.startswith(SERVICE_PATH) else STANDS_FOR.get(path)


def admit(tokens: TokensFile, shown: Sequence[str], method: str | None) -> Token:
    """Let a call in on its token, which is also whose tenants `check_tenant` goes by from here on.

    Args:
        tokens: those that are let in.
        shown: what the call brought as `authorization`: metadata or headers.
        method: of RouterService, that the token must be good for; None where any token will do.

    Raises:
        TokenRefused: not exactly one bearer token, or an unknown one.
        PermissionRefused: the token is not good for the method.

    Returns:
        The token as it stands in the file.
    """
    token = tokens.find(presented_in(shown))
    if token is None:
        raise TokenRefused("unknown token")
    if method is not None and not token.allows(method):
        raise PermissionRefused(f"token {token.name} may not call {method}")
    _caller.set(token)
    return token


def presented_in(shown: Sequence[str]) -> str:
    """Return the token in `authorization`; raises `TokenRefused` for anything but one bearer token."""
    scheme, _, presented = shown[0].partition(" ") if len(shown) == 1 else ("", "", "")
    if scheme.lower() != SCHEME or not presented.strip(" "):
        raise TokenRefused("expected the metadata authorization: Bearer <token>, once")
    return presented.strip(" ")


def check_tenant(tenant: str) -> None:
    """Raise `PermissionRefused` when the token of this call may not speak for the tenant."""
    token = _caller.get()
    if token is not None and token.tenants is not None and tenant not in token.tenants:
        raise PermissionRefused(f"token {token.name} may not speak for that tenant")


def _refusing(refusal: TokenRefused | PermissionRefused) -> Any:
    code, message = grpc.StatusCode[refusal.code], str(refusal)

    async def refuse(_requests: Any, context: Any) -> None:
        await context.abort(code, message)

    return grpc.stream_stream_rpc_method_handler(refuse)  # fits calls of every kind: it reads nothing
