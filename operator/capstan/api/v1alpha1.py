"""The five kinds of `capstan.dev/v1alpha1`, in the order in which people meet them."""

from __future__ import annotations

from capstan.api.meta import Resource
from capstan.api.nodecap import NodeCap
from capstan.api.powerdomain import PowerDomain
from capstan.api.powerledger import PowerLedger
from capstan.api.servingpolicy import ServingPolicy
from capstan.api.servingprofile import ServingProfile

KINDS: tuple[type[Resource], ...] = (ServingPolicy, PowerDomain, ServingProfile, NodeCap, PowerLedger)

__all__ = ["KINDS", "NodeCap", "PowerDomain", "PowerLedger", "Resource", "ServingPolicy", "ServingProfile"]
