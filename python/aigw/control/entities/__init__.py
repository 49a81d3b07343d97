"""The entities of the gateway, one file each, and the table by which the generic engine finds them."""

from collections.abc import Mapping
from typing import Final

from aigw.control.entities import acl, consumer, keyauth_credential, model, plugin, route, service, tier
from aigw.control.entities.acl import Acl
from aigw.control.entities.base import Entity, Kind
from aigw.control.entities.check import check_entity
from aigw.control.entities.consumer import Consumer
from aigw.control.entities.keyauth_credential import KeyauthCredential
from aigw.control.entities.model import LlmModel
from aigw.control.entities.plugin import Plugin
from aigw.control.entities.route import Route
from aigw.control.entities.service import Service
from aigw.control.entities.tier import Tier

KINDS: Final[Mapping[str, Kind]] = {
    module.KIND.name: module.KIND for module in (service, route, tier, model, consumer, keyauth_credential, acl, plugin)
}
"""By collection, in the order in which they can be loaded: what is referenced comes first."""

__all__ = [
    "KINDS",
    "Acl",
    "Consumer",
    "Entity",
    "KeyauthCredential",
    "Kind",
    "LlmModel",
    "Plugin",
    "Route",
    "Service",
    "Tier",
    "check_entity",
]
