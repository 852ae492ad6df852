"""Asks with the package open-inference-grpc; prints what it is told as JSON. Run as `... ADDRESS MODEL TEXT ...`.

A process of its own: its messages have the names of ours.
"""

import json
import sys

import grpc
from open_inference.grpc import protocol, service


def main(address: str, model: str, texts: list[str]) -> None:
    stub = service.GRPCInferenceServiceStub(grpc.insecure_channel(address))
    contents = protocol.InferTensorContents(bytes_contents=[text.encode() for text in texts])
    tensor = protocol.ModelInferRequest.InferInputTensor(
        name="text", datatype="BYTES", shape=[len(texts)], contents=contents
    )
    reply = stub.ModelInfer(protocol.ModelInferRequest(model_name=model, id="r-1", inputs=[tensor]), timeout=60)
    found = {output.name: output for output in reply.outputs}
    metadata = stub.ModelMetadata(protocol.ModelMetadataRequest(name=model), timeout=60)
    told = {
        "live": stub.ServerLive(protocol.ServerLiveRequest(), timeout=60).live,
        "ready": stub.ServerReady(protocol.ServerReadyRequest(), timeout=60).ready,
        "model_ready": stub.ModelReady(protocol.ModelReadyRequest(name=model), timeout=60).ready,
        "other_ready": stub.ModelReady(protocol.ModelReadyRequest(name="other"), timeout=60).ready,
        "server": stub.ServerMetadata(protocol.ServerMetadataRequest(), timeout=60).name,
        "inputs": [[one.name, one.datatype, list(one.shape)] for one in metadata.inputs],
        "outputs": [[one.name, one.datatype, list(one.shape)] for one in metadata.outputs],
        "id": reply.id,
        "p_match": list(found["p_match"].contents.fp32_contents),
        "model": [name.decode() for name in found["model"].contents.bytes_contents],
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
