"""``docs/reference/settings.md``, written by the models.

Not here: that it is the one that is committed (``test_settings_reference``).
"""

from __future__ import annotations

import json
from pathlib import Path

from mdp.config.describing import Described, described_settings, section_text, sections
from mdp.config.exchange_sections import ExchangeSettings
from mdp.config.settings import PROJECT_ROOT
from mdp.domain.market import Exchange

HEAD = """\
# Settings
<!-- Written by its subject: `make golden` makes it anew. -->

A variable wins over the file of the environment (`mdp/config/environments/`), which wins over the default written here.
A misspelt name is refused; case does not matter. A list or an object is given as JSON, and a whole section may be:
`MDP_API='{"port": 8001}'`. What is in force, and where from: `mdp config show`; what is missing or wrong:
`mdp config check`. Which environment wants what: [environments](../environments.md).

🔒 is a secret or holds one: only variables give it, no file of the project may, and it is never shown.
"""


def settings_page() -> str:
    """Return the page."""
    listed = described_settings()
    parts = [HEAD]
    for name, model in sections().items():
        own = [one for one in listed if _section_of(one) == name and not _is_of_exchange(one)]
        parts.append(_heading(name, section_text(model)))
        parts.append(_table(own))
        if name == "exchanges":
            parts.append(_heading("exchanges.EXCHANGE", section_text(ExchangeSettings)))
            parts.append(f"`EXCHANGE` is {', '.join(f'`{one.name}`' for one in Exchange)}.\n")
            one_of_them = next(iter(Exchange)).value
            parts.append(_table([one for one in listed if one.path[:2] == ("exchanges", one_of_them)]))
    return "\n".join(parts)


def _heading(name: str, text: str) -> str:
    title = f"`MDP_{name.upper().replace('.', '__')}__…`" if name else "For all"
    return f"## {title}\n\n{text}\n"


def _table(rows: list[Described]) -> str:
    lines = ["| variable | what it is | default | for |", "|---|---|---|---|"]
    for one in rows:
        name = _name(one) + (" 🔒" if one.is_secret else "")
        kind = "; ".join(text for text in (one.kind, one.allowed) if text)
        lines.append(f"| {name} | {_cell(kind)} | {_cell(_default(one))} | {_cell(one.text.replace('``', '`'))} |")
    return "\n".join(lines) + "\n"


def _name(one: Described) -> str:
    if not _is_of_exchange(one):
        return f"`{one.setting}`"
    return f"`MDP_EXCHANGES__EXCHANGE__{one.path[2].upper()}`"


def _default(one: Described) -> str:
    if one.default is None:
        return "none"
    if isinstance(one.default, Path):
        return f"`{one.default.relative_to(PROJECT_ROOT)}` of the checkout"
    if one.path == ("markets",):
        return "all eleven"
    return f"`{one.default if isinstance(one.default, str) else json.dumps(one.default)}`"


def _section_of(one: Described) -> str:
    return one.path[0] if len(one.path) > 1 else ""


def _is_of_exchange(one: Described) -> bool:
    return one.path[0] == "exchanges" and len(one.path) == 3


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
