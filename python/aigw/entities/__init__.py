"""The entities of the gateway, one frozen model each, and `KINDS`, the table by which the generic engine finds them.

service, route, kong_upstream, target, consumer, keyauth_credential, acl, plugin, certificate, sni, ca_certificate   Kong's entities
tier, model   our own: the product that a consumer buys, and the models that it may call
base          `Entity` (identity, times) and `EntityKind` (names, references and unique fields of a kind)
check         input of the Admin API or the file -> a checked entity, or all findings
host          host names: checked, and in one spelling
patterns      regular expressions in paths, checked by the compiler that workers use
period        periods of limits: checked, their length and canonical form
rates         prices per token
"""

from collections.abc import Mapping
from typing import Final

from aigw.entities import (
    acl,
    ca_certificate,
    certificate,
    consumer,
    keyauth_credential,
    kong_upstream,
    model,
    plugin,
    route,
    service,
    sni,
    target,
    tier,
)
from aigw.entities.acl import Acl
from aigw.entities.base import Entity, EntityKind
from aigw.entities.ca_certificate import StoredCaCertificate
from aigw.entities.certificate import StoredCertificate
from aigw.entities.check import check_entity
from aigw.entities.consumer import Consumer
from aigw.entities.keyauth_credential import KeyauthCredential
from aigw.entities.kong_upstream import KongUpstream
from aigw.entities.model import LlmModel
from aigw.entities.plugin import Plugin
from aigw.entities.route import Route
from aigw.entities.service import Service
from aigw.entities.sni import Sni
from aigw.entities.target import Target
from aigw.entities.tier import Tier

KINDS: Final[Mapping[str, EntityKind]] = {
    module.KIND.name: module.KIND
    for module in (
        certificate,
        sni,
        ca_certificate,
        kong_upstream,
        target,
        service,
        route,
        tier,
        model,
        consumer,
        keyauth_credential,
        acl,
        plugin,
    )
}
"""By collection, in the order of references: a referenced kind comes first."""

__all__ = [
    "KINDS",
    "Acl",
    "Consumer",
    "Entity",
    "EntityKind",
    "KeyauthCredential",
    "KongUpstream",
    "LlmModel",
    "Plugin",
    "Route",
    "Service",
    "Sni",
    "StoredCaCertificate",
    "StoredCertificate",
    "Target",
    "Tier",
    "check_entity",
]
