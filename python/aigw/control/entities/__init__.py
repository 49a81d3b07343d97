"""The entities of the gateway, one file each, and the table by which the generic engine finds them."""

from collections.abc import Mapping
from typing import Final

from aigw.control.entities import consumer, keyauth_credential, plugin, route, service
from aigw.control.entities.base import Entity, Kind
from aigw.control.entities.check import check_entity
from aigw.control.entities.consumer import Consumer
from aigw.control.entities.keyauth_credential import KeyauthCredential
from aigw.control.entities.plugin import Plugin
from aigw.control.entities.route import Route
from aigw.control.entities.service import Service

KINDS: Final[Mapping[str, Kind]] = {
    module.KIND.name: module.KIND for module in (service, route, consumer, keyauth_credential, plugin)
}
"""By collection, in the order in which they can be loaded: what is referenced comes first."""

__all__ = [
    "KINDS",
    "Consumer",
    "Entity",
    "KeyauthCredential",
    "Kind",
    "Plugin",
    "Route",
    "Service",
    "check_entity",
]
