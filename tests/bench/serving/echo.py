"""A bare gRPC echo in the stack of the server (grpc.aio, uvloop): every call gets one ready reply.

What is left of a `Route` when nothing is parsed, decided or built. Run as `python -m tests.bench.serving.echo PORT`
(0 for a free one); it prints its address.
"""

from __future__ import annotations

import asyncio
import sys

import grpc
import uvloop

from turnout.serving.pb import router_pb2 as pb
from turnout.serving.wire.route import ROUTE_METHOD

REPLY = pb.RouteResponse(bundle="echo/1", model="gpt-4o-mini", p_match=0.5, policy="max_worse=0.01").SerializeToString()


class _Echo(grpc.GenericRpcHandler):
    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        return grpc.unary_unary_rpc_method_handler(_answer) if handler_call_details.method == ROUTE_METHOD else None


async def _answer(_request: bytes, _context: grpc.aio.ServicerContext) -> bytes:
    return REPLY


async def _serve(port: int) -> None:
    server = grpc.aio.server(options=(("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", 16 << 20)))
    server.add_generic_rpc_handlers((_Echo(),))
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
