"""Asks with tritonclient, which sends and reads raw tensors; prints what it is told as JSON. Run as the other one."""

import json
import sys

import numpy as np
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput


def main(address: str, model: str, texts: list[str]) -> None:
    client = InferenceServerClient(address)
    tensor = InferInput("text", [len(texts)], "BYTES")
    tensor.set_data_from_numpy(np.array([text.encode() for text in texts], dtype=object))
    wanted = [InferRequestedOutput(name) for name in ("p_match", "model")]
    result = client.infer(model, [tensor], outputs=wanted, request_id="r-1", client_timeout=60)
    metadata = client.get_model_metadata(model)
    told = {
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "model_ready": client.is_model_ready(model),
        "other_ready": client.is_model_ready("other"),
        "server": client.get_server_metadata().name,
        "inputs": [[one.name, one.datatype, list(one.shape)] for one in metadata.inputs],
        "outputs": [[one.name, one.datatype, list(one.shape)] for one in metadata.outputs],
        "id": result.get_response().id,
        "p_match": result.as_numpy("p_match").tolist(),
        "model": [name.decode() for name in result.as_numpy("model")],
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
