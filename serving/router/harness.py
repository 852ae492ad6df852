"""Harness text: what agent harnesses add to a prompt of their own accord, left out before the router reads it.

Comes in: a rendered prompt (`serving.router.prompt`) and the version of the rules that a bundle names. Goes out: the
text that `serving.router.features` reads, in training and in serving alike. Costs, guards, logs and labels see the
whole prompt.

A harness sends the same pages with an easy task and with a hard one, and changes them with each release: they say
nothing of what is asked, push it out of the encoder's window, and make old training rows look unlike new requests.

| rule | leaves out | not where |
| --- | --- | --- |
| block | the lines from `<tag>` to `</tag>`, for the tags of `blocks` | they stand inside a line, or in two messages |
| tool message | messages of the roles `tool` and `function` | the prompt is no conversation |
| tool result | user messages `[tool for '...'] Result:` of one of `tools` | it quotes words of the user's |
| system prompt | system and developer messages that begin as one of `openings` or are one of `defaults` | |
| heading | `user:` over the only message left, so that it reads like one sent alone | nothing else was left out |

Where nothing of the user's would be left, the prompt keeps all of its text. Tags and openings are those that public
harnesses send, compared exactly; a tag that is never closed is the user's. Leaving text out twice is the same as once,
and takes time linear in the text: 1 to 3 microseconds on plain prompts, at most 3 % of their features
(`python -m tests.bench.harness_rules`; a third on an agent's conversation of 100,000 characters).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

ROLES = ("system", "developer", "user", "assistant", "tool", "function")
TOOL_ROLES = frozenset({"tool", "function"})
SYSTEM_ROLES = frozenset({"system", "developer"})
USER_MARKS = ("<feedback>", "<user_message>")
"""What Cline and Roo Code put around words of the user's inside a tool's result."""

_FIRST_HEADS = tuple(f"{role}:\n" for role in ROLES if role not in TOOL_ROLES)
_MARKS = (*(f"{role}:\n" for role in (*SYSTEM_ROLES, *TOOL_ROLES)), "] Result:")
"""A conversation without any of these has no message to leave out; looking takes a quarter of parting it."""

# Patterns begin with two fixed characters, and the line break after a heading is only looked at: `re` then skips to the
# next candidate (0.4 ns a character, where a pattern for the beginning of a line takes 70), and headings may share it.
_HEAD = re.compile(rf"\n\n({'|'.join(ROLES)}):(?=\n)")


@dataclass(frozen=True)
class HarnessRules:
    """What one version of the rules takes for harness text; versions in use are never changed.

    Attributes:
        blocks: tags, and who writes them.
        tools: names of tools whose results come as user messages.
        openings: beginnings of system prompts, and whose they are.
        defaults: whole system prompts that say nothing.
    """

    blocks: Mapping[str, str]
    tools: tuple[str, ...]
    openings: Mapping[str, str]
    defaults: frozenset[str]


_VERSION_1 = HarnessRules(
    blocks={
        "system-reminder": "Claude Code: notes to the model on its files, tools and to-do list",
        "local-command-caveat": "Claude Code: a notice before the output of commands",
        "local-command-stdout": "Claude Code: output of a command",
        "bash-stdout": "Claude Code: output of a shell command",
        "bash-stderr": "Claude Code: errors of a shell command",
        "ide_opened_file": "Claude Code: which file the editor shows",
        "environment_details": "Cline, Roo Code: open tabs, time, cost so far and mode, under every user message",
        "environment_context": "Codex CLI: folder, shell, approval policy and sandbox",
        "environment_info": "GitHub Copilot Chat: operating system and shell",
        "workspace_info": "GitHub Copilot Chat: folders of the workspace and their listing",
        "editorContext": "GitHub Copilot Chat: which file the editor shows",
        "reminderInstructions": "GitHub Copilot Chat: how to call tools, after every request",
        "open_and_recently_viewed_files": "Cursor: names of files that were open",
    },
    tools=(
        "read_file",
        "write_to_file",
        "replace_in_file",
        "apply_diff",
        "search_files",
        "list_files",
        "list_code_definition_names",
        "execute_command",
        "browser_action",
        "use_mcp_tool",
        "access_mcp_resource",
    ),
    openings={
        "You are Claude Code, Anthropic's official CLI for Claude": "Claude Code",
        "You are Cline, a highly skilled software engineer": "Cline",
        "You are Roo, a highly skilled software engineer": "Roo Code",
        "You are Kilo Code, a highly skilled software engineer": "Kilo Code",
        "You are a coding agent running in the Codex CLI": "Codex CLI",
        "You are Codex, based on GPT-5": "Codex CLI",
        "You are an interactive CLI agent specializing in software engineering tasks": "Gemini CLI",
        "You are opencode, an interactive CLI tool": "opencode",
        "You are OpenHands agent, a helpful AI assistant": "OpenHands",
        "You are a general-purpose AI agent called goose": "goose",
        "Act as an expert software developer.\nAlways use best practices when coding": "aider",
        "You are an expert AI programming assistant, working with a user in the VS Code editor": "GitHub Copilot Chat",
        "You are an AI coding assistant, powered by": "Cursor",
        "You are a powerful agentic AI coding assistant": "Cursor",
        "You are ChatGPT, a large language model trained by OpenAI": "ChatGPT and front ends that imitate it",
    },
    defaults=frozenset(
        {"You are a helpful assistant", "You are a helpful assistant.", "You are a helpful AI assistant."}
    ),
)

HARNESS_RULES: Mapping[int, HarnessRules | None] = {0: None, 1: _VERSION_1}
"""Every version that a bundle may name; 0, which bundles without a version mean, leaves all text as it is."""

LATEST_HARNESS_RULES = max(HARNESS_RULES)


def strip_harness(text: str, version: int) -> str:
    """Return a rendered prompt without harness text; the text itself where there is none.

    Raises:
        KeyError: there are no rules of that version.
    """
    return stripper(version)(text)


@cache
def stripper(version: int) -> Callable[[str], str]:
    """Return `strip_harness` of one version; raises as it does."""
    rules = HARNESS_RULES[version]
    return _unchanged if rules is None else _Stripper(rules)


def _unchanged(text: str) -> str:
    return text


class _Stripper:
    """Leaves out what one version of the rules names."""

    def __init__(self, rules: HarnessRules) -> None:
        tags = "|".join(map(re.escape, rules.blocks))
        self._opening = re.compile(rf"\n<({tags})>")
        self._closing = re.compile(rf"</({tags})>[ \t\r]*+$", re.MULTILINE)
        self._result = re.compile(rf"\[(?:{'|'.join(rules.tools)})(?: for '.{{0,500}}')?\] Result:")
        self._openings = tuple(rules.openings)
        self._defaults = rules.defaults

    def __call__(self, text: str) -> str:
        """Return the text without harness text."""
        kept = self._without_blocks(text)
        if kept.startswith(_FIRST_HEADS) and (kept is not text or any(mark in text for mark in _MARKS)):
            kept = self._without_messages(kept)
        return kept if kept.strip() else text

    def _without_blocks(self, text: str) -> str:
        """Cut out the lines of each block from its first opening tag to the first closing one in the same message."""
        if "</" not in text:  # a tenth of the time that the pattern takes to find none
            return text
        closings = list(self._closing.finditer(text))
        if not closings:
            return text
        found = sorted((*closings, *_HEAD.finditer(text), *self._opening.finditer(f"\n{text}")), key=re.Match.start)
        opened, cuts = dict[str, int](), list[tuple[int, int]]()
        for one in found:
            what, start = one[1], one.start()
            if one.re is _HEAD:
                opened.clear()
            elif one.re is self._opening:
                opened.setdefault(what, start)  # where the tag begins, thanks to the line break before the text
            elif what in opened:
                start = opened[what]
                while cuts and cuts[-1][0] > start:
                    cuts.pop()
                cuts.append((start, one.end() + 1))
                opened = {tag: at for tag, at in opened.items() if at < start}
        return _without(text, cuts) if cuts else text

    def _without_messages(self, text: str) -> str:
        """Leave out whole messages of a conversation; return nothing where none of the user's would be left."""
        _, *parts = _HEAD.split(f"\n\n{text}")
        messages = [(role, content.strip("\n")) for role, content in zip(parts[::2], parts[1::2], strict=True)]
        kept = [one for one in messages if one[1].strip() and not self._is_harness(*one)]
        if len(kept) == len(messages):
            return text
        if not any(role == "user" for role, _ in kept):
            return ""
        if len(kept) == 1:
            return kept[0][1]
        return "\n\n".join(f"{role}:\n{content}" for role, content in kept)

    def _is_harness(self, role: str, content: str) -> bool:
        if role == "user":
            return self._result.match(content) is not None and not any(mark in content for mark in USER_MARKS)
        if role in SYSTEM_ROLES:
            begun = content.lstrip()
            return begun.startswith(self._openings) or begun.rstrip() in self._defaults
        return role in TOOL_ROLES


def _without(text: str, cuts: Sequence[tuple[int, int]]) -> str:
    """Return the text without some half-open stretches, in order and apart, and without blank lines around it."""
    edges = [0, *(edge for cut in cuts for edge in cut), len(text)]
    return "".join(text[start:end] for start, end in zip(edges[::2], edges[1::2], strict=True)).strip("\n")
