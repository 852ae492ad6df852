"""The shipped graph as a call in process: the same bundle and policy as the server's, without any server."""

from turnout.serving.bundles.bundle import load_bundle
from turnout.serving.bundles.registry import find_bundle
from turnout.serving.router.prompt import prompt_from_text


def decider(options: list[str]):
    """Return what decides on one prompt; `full` among the options leaves the early exit out."""
    bundle = load_bundle(find_bundle())
    threshold = bundle.manifest.policy("").threshold
    early_exit = "full" not in options
    return lambda text: bundle.model.predict(prompt_from_text(text), threshold, early_exit=early_exit)
