"""Writes the stubs beside this file from `proto/`; needs grpcio-tools (the `dev` extra).

The import line between the two modules is rewritten, so that the stubs live in `turnout.serving.pb` while
the descriptor keeps its canonical name, `turnout/v1/router.proto`. Of protocols that are not ours only the
messages are written: their handlers take bytes.
"""

from __future__ import annotations

import argparse
import importlib.resources
import sys
import tempfile
from pathlib import Path

PROTO_FOLDER = Path(__file__).resolve().parents[2] / "proto"
PROTO = "turnout/v1/router.proto"
OPEN_INFERENCE = "inference/open_inference.proto"
EXT_PROC = "ext_proc/ext_proc.proto"
STUBS = {
    "router_pb2.py": PROTO,
    "router_pb2.pyi": PROTO,
    "router_pb2_grpc.py": PROTO,
    "open_inference_pb2.py": OPEN_INFERENCE,
    "open_inference_pb2.pyi": OPEN_INFERENCE,
    "ext_proc_pb2.py": EXT_PROC,
    "ext_proc_pb2.pyi": EXT_PROC,
}
"""Modules that are checked in, and what each is made of."""
CANONICAL_IMPORT = "from turnout.v1 import router_pb2"
OUR_IMPORT = "from turnout.serving.pb import router_pb2"


def generate(out: Path) -> None:
    """Write the stub modules into the folder `out`; raises `RuntimeError` when protoc refuses a file."""
    from grpc_tools import protoc  # noqa: PLC0415  # a development dependency; the rest of the package does without

    with tempfile.TemporaryDirectory() as scratch:
        includes = [f"-I{PROTO_FOLDER}", f"-I{importlib.resources.files('grpc_tools') / '_proto'}"]
        outputs = [f"--{kind}={scratch}" for kind in ("python_out", "pyi_out", "grpc_python_out")]
        if protoc.main(["protoc", *includes, *outputs, *sorted(set(STUBS.values()))]) != 0:
            raise RuntimeError(f"{PROTO_FOLDER}: protoc refused it, see its message above")
        for name, proto in STUBS.items():
            text = (Path(scratch) / Path(proto).parent / name).read_text("utf-8")
            (out / name).write_text(text.replace(CANONICAL_IMPORT, OUR_IMPORT), "utf-8")


def main(arguments: list[str]) -> None:
    """Run as a command: `python -m turnout.serving.pb.generate [--out DIR]`."""
    parser = argparse.ArgumentParser(prog="python -m turnout.serving.pb.generate", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder to write the stubs to")
    generate(parser.parse_args(arguments).out)


if __name__ == "__main__":
    main(sys.argv[1:])
