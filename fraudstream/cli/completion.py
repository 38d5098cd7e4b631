"""Shell completion: shells ask `fraudstream completion next` for what may come at the cursor.

Commands come from the table, so that a key press loads no program. Only options (a word that begins
with a dash) are asked of the program: its `--help` names them.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Final

from fraudstream.cli.table import PROGRAMS, all_commands

_BASH: Final = """\
# ~/.bashrc: eval "$(fraudstream completion bash)"
_fraudstream() {
  local found
  found=$(fraudstream completion next "${COMP_WORDS[@]:1:COMP_CWORD}" | cut -f1)
  mapfile -t COMPREPLY < <(compgen -W "$found" -- "${COMP_WORDS[COMP_CWORD]}")
}
complete -o default -F _fraudstream fraudstream
"""
_ZSH: Final = """\
# ~/.zshrc, after compinit: eval "$(fraudstream completion zsh)"
_fraudstream() {
  local -a found
  found=("${(@f)$(fraudstream completion next "${(@)words[2,CURRENT]}" | tr '\\t' ':')}")
  if [[ -n $found ]]; then _describe command found; else _files; fi
}
compdef _fraudstream fraudstream
"""
_FISH: Final = """\
# ~/.config/fish/config.fish: fraudstream completion fish | source
function __fraudstream
  set -l found (fraudstream completion next (commandline -opc)[2..] (commandline -ct))
  if test -n "$found"
    printf '%s\\n' $found
  else
    __fish_complete_path (commandline -ct)
  end
end
complete -c fraudstream -f -a '(__fraudstream)'
"""
SCRIPTS: Final[Mapping[str, str]] = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}
"""What each shell reads at its start."""
_OWN: Final = {
    "completion": "set up this completion",
    **{f"completion {shell}": f"print the script of {shell}" for shell in SCRIPTS},
}
_OPTION: Final = re.compile(r"(?<![\w-])--[a-z][a-z-]+")


def complete(words: Sequence[str]) -> int:
    """Print a shell's script, or what may come next; return the exit code (sysexits)."""
    if words[:1] == ["next"]:
        for word, does in candidates(words[1:]).items():
            print(f"{word}\t{does}")
        return os.EX_OK
    if len(words) != 1 or words[0] not in SCRIPTS:
        print(f"usage: fraudstream completion {'|'.join(SCRIPTS)}", file=sys.stderr)
        return os.EX_USAGE
    print(SCRIPTS[words[0]], end="")
    return os.EX_OK


def candidates(words: Sequence[str]) -> Mapping[str, str]:
    """Return what may stand for the last word, with what it does.

    >>> list(candidates(["scoring", "rules", "pub"]))
    ['publish']
    """
    *before, begun = words or [""]
    if begun.startswith("-"):
        return {option: "" for option in _options(before) if option.startswith(begun)}
    found: dict[str, str] = {}
    for command, does in {**all_commands(), **_OWN}.items():
        path = command.split()
        if path[: len(before)] == before and len(path) > len(before):
            word, *below = path[len(before) :]
            # A group of commands has no line of its own in the table.
            found[word] = found.get(word, "") if below else does
    return {word: does for word, does in found.items() if word.startswith(begun)}


def _options(before: Sequence[str]) -> list[str]:
    """Return the options of the command that the words before begin with."""
    known = all_commands()
    lengths = range(len(before), 0, -1)
    path = next((p for n in lengths if " ".join(p := before[:n]) in known), before[:1])
    if not path or path[0] not in PROGRAMS:
        return ["--help", "--version"]
    from fraudstream.cli.main import entry_of

    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        entry_of(path[0])([*path[1:], "--help"])
    return sorted(set(_OPTION.findall(said.getvalue())))
