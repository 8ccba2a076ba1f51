"""The four kinds of `capstan.dev/v1alpha1`, in the order in which people meet them."""

from __future__ import annotations

from capstan.api.meta import Resource
from capstan.api.nodecap import NodeCap
from capstan.api.powerdomain import PowerDomain
from capstan.api.servingpolicy import ServingPolicy
from capstan.api.servingprofile import ServingProfile

KINDS: tuple[type[Resource], ...] = (ServingPolicy, PowerDomain, ServingProfile, NodeCap)

__all__ = ["KINDS", "NodeCap", "PowerDomain", "Resource", "ServingPolicy", "ServingProfile"]
