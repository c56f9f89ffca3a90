"""What several sections of the settings are made of: ports, shares, addresses, and that nothing unknown is taken.

Not here: the settings (``sections``, ``exchange_sections``).
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Port = Annotated[int, Field(ge=1, le=65535)]
Share = Annotated[float, Field(gt=0, le=1)]
Url = Annotated[str, Field(pattern=r"^(https?|wss?)://[^/\s]+[^\s]*[^/\s]$")]


class Strict(BaseModel):
    """A section: frozen, and a name it does not know is an error that does not show the value."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)
