"""The page of all commands, from the command line itself."""

from __future__ import annotations

import re

from turnout.serving.cli.app import build

HEAD = """# Commands

<!-- written by python -m docs.generate from serving/cli/app.py -->
Each page of `turnout COMMAND --help`, in one. Where a setting comes from when no option is given:
[configuration](configuration.md). Every command takes `--config FILE.toml`, `--prices FILE` ([prices](../operate/prices.md)) and `--print-config`;
`turnout --install-completion` lets your shell complete them.

## Exit codes

| code | means | what to do |
| --- | --- | --- |
| 0 | done | |
| 1 | data refused: a log, label file or spool that can't be used as it is; `route --server` had no answer | the line on stderr names file, row and next step |
| 2 | usage: an option, a setting, a rules file or a missing extra | correct it; nothing was begun |
| 3 | bundle refused: damaged, unsigned, of another format, or another champion meanwhile | `turnout bundle verify FOLDER` |
| 4 | port taken | stop the other server, or another `--listen` |
| 5 | not yet: a judge's batch is out, too few new rows, another run at work | the same command again, later |

Errors are one line on stderr, `turnout: WHAT: what to do`. With `--json` the result is JSON on stdout, alone.
"""


def commands_page() -> str:
    """Return the page: exit codes, a list of the commands, then each with its arguments and options."""
    text = build(whole=True).generate_docs(recursive=True, heading_level=1, max_heading_level=3)
    _, _, body = text.partition("## Table of Contents")
    body = re.sub(
        r"^.*#turnout-install-completion.*\n", "", body.partition("## turnout --install")[0], flags=re.MULTILINE
    )
    body = re.sub(r"[ \t]+$", "", body, flags=re.MULTILINE).strip()
    return f"{HEAD}\n## All commands\n\n{body}\n"
