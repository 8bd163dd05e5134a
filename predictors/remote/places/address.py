"""`@HOST:PORT`: an agent on the network."""

from __future__ import annotations

from typing import ClassVar

from nas.predictors.remote.agent.address import parse_address
from nas.predictors.remote.agent_place import AgentPlace, Link
from nas.predictors.remote.client import Client
from nas.predictors.remote.place import register_place
from nas.predictors.remote.secret import agent_secret


@register_place
class Address(AgentPlace):
    """An agent that listens. What is sent is authenticated, not encrypted: through a foreign network, go by `ssh -L`."""

    name: ClassVar[str] = "tcp"

    def __init__(self, where: str) -> None:
        self._host, self._port = parse_address(where)

    def link(self) -> Link:
        """A client with the secret of the environment."""
        return Client(self._host, self._port, agent_secret())
