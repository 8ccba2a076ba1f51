"""`HOST:PORT` on a command line. A module of its own, without pydantic: an agent has 40 MB in all.

Who calls it: the commands of `app`, the long ones through `settings`.
"""

from __future__ import annotations

from dataclasses import dataclass

import click

LARGEST_PORT = 65535


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen."""

    host: str
    port: int


class AddressType(click.ParamType[Address]):
    """`HOST:PORT`; an IPv6 host stands in brackets."""

    name = "host:port"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Address:
        """Parse, or say what an address looks like."""
        if isinstance(value, Address):
            return value
        host, colon, port = str(value).rpartition(":")
        if not colon or not port.isdecimal() or int(port) > LARGEST_PORT:
            self.fail(f"{value!r} is not HOST:PORT, for example 0.0.0.0:8080", param, ctx)
        return Address(host=host.strip("[]"), port=int(port))


ADDRESS = AddressType()
