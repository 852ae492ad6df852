"""What `turnout` runs: the command line, or one line that says which extra it needs.

The base installation is for a gateway's process that calls a server: it has the clients, and no command line.
"""

from __future__ import annotations

import sys

from turnout.serving.errors import EXIT_USAGE, how_to_install


def main() -> None:
    """Run the command line; without what it stands on, say so and end with exit code 2."""
    try:
        from turnout.serving.cli.app import main as command_line
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "turnout":
            raise
        print(f"turnout: this command needs {error.name}; {how_to_install('serve')}", file=sys.stderr)
        sys.exit(EXIT_USAGE)
    command_line()
