"""Keeps dependencies from sending anything that nobody asked for. Every one that would is listed here and nowhere else.

Comes in: the environment, before any of them is imported. Goes out: the same environment with each one's own switch
set, unless the operator has set it. `serving` and `training` call `keep_quiet` as they are imported, so that it holds
in every process that runs a line of ours: the command, workers of the server, Daft's and Ray's workers, which
import `training` to unpickle their work, tests and benchmarks. Processes started from those inherit it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Switch:
    """How one dependency is kept quiet.

    Attributes:
        package: its import name.
        variable: the environment variable that it reads, at its import or at its first use.
        value: what keeps it quiet.
        otherwise: what it would do.
    """

    package: str
    variable: str
    value: str
    otherwise: str


SWITCHES = (
    Switch(
        "onnxruntime",
        "ORT_DISABLE_TELEMETRY",
        "1",
        "from 1.29 on: usage events to mobile.events.data.microsoft.com, a lasting id of the machine in "
        "~/.cache/Microsoft, a queue beside it and .ses in the folder for temporary files",
    ),
    Switch("daft", "DAFT_ANALYTICS_ENABLED", "0", "a request to scarf.sh and one to osstelemetry.io at its import"),
    Switch("ray", "RAY_USAGE_STATS_ENABLED", "0", "reports of use to usage-stats.ray.io, every hour of a cluster"),
    Switch("mlflow", "MLFLOW_DISABLE_TELEMETRY", "true", "events of use, and a settings file fetched for them"),
    Switch("litellm", "LITELLM_TELEMETRY", "False", "events of use, in the releases that still have them"),
    Switch("litellm", "LITELLM_LOCAL_MODEL_COST_MAP", "True", "a list of prices fetched from GitHub at its import"),
    Switch("huggingface_hub", "HF_HUB_DISABLE_TELEMETRY", "1", "library and version told to huggingface.co"),
)
"""Looked through and found to send nothing of themselves: grpcio, prometheus-client, tokenizers (apart from
`from_pretrained`, which we do not call), scikit-learn, matplotlib, pyarrow, openai (apart from the API asked). Ray asks
the clouds where it runs whatever its switch says: `training.pipeline.engine` starts none of the process that does."""


def keep_quiet(environment: MutableMapping[str, str] = os.environ) -> None:
    """Set every switch that the operator has left unset or empty; what was set on purpose stays.

    An application that had imported onnxruntime before us has its id on disk already; its events end here.
    """
    chosen = bool(environment.get("ORT_DISABLE_TELEMETRY"))
    for switch in SWITCHES:
        if not environment.get(switch.variable):
            environment[switch.variable] = switch.value
    early = sys.modules.get("onnxruntime")
    if early is not None and not chosen and hasattr(early, "disable_telemetry_events"):
        early.disable_telemetry_events()
