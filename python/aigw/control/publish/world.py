"""The `World`: all entities of the policy, without consumers and credentials.

In: entities, as the publication reads and changes them. Out: the views that the compilation needs: plugins by scheme, upstreams with
their targets. No store, no numbers of counters.
"""

from dataclasses import dataclass, field
from typing import Final, Generic, NamedTuple, TypeVar

from aigw.entities import (
    KongUpstream,
    LlmModel,
    Plugin,
    Route,
    Service,
    Sni,
    StoredCaCertificate,
    StoredCertificate,
    Target,
    Tier,
)
from aigw.entities.target import Place, place_of
from aigw.types import JsonDict

SCHEMES: Final = ("http", "https")

E = TypeVar("E")


class Numbered(NamedTuple, Generic[E]):
    """An entity with its row number."""

    n: int
    entity: E


@dataclass(slots=True)
class World:
    """The entities of the policy, by id. `named`: text of `anonymous` in a key-auth configuration -> number of that consumer."""

    services: dict[str, Numbered[Service]] = field(default_factory=dict)
    certificates: dict[str, Numbered[StoredCertificate]] = field(default_factory=dict)
    snis: dict[str, Numbered[Sni]] = field(default_factory=dict)
    ca_certificates: dict[str, Numbered[StoredCaCertificate]] = field(default_factory=dict)
    """These three, and Kong's upstreams and targets, have no row numbers."""
    upstreams: dict[str, Numbered[KongUpstream]] = field(default_factory=dict)
    targets: dict[str, Numbered[Target]] = field(default_factory=dict)
    marked: frozenset[Place] = frozenset()
    """Targets that an operator marked as unhealthy. The mark ends with its target or with the process, as in Kong."""
    routes: dict[str, Numbered[Route]] = field(default_factory=dict)
    plugins: dict[str, Plugin] = field(default_factory=dict)
    named: dict[str, int] = field(default_factory=dict)
    tiers: dict[str, Numbered[Tier]] = field(default_factory=dict)
    models: dict[str, Numbered[LlmModel]] = field(default_factory=dict)
    default_tier: str | None = None
    v1: JsonDict | None = None
    """The file's `v1`."""
    schemes: frozenset[str] = frozenset({"http"})
    """The protocols of requests. A plugin for others does not run. A plugin on a consumer group for one of two runs for both."""

    def running(self) -> list[Plugin]:
        """The plugins on no consumer that run on requests of these protocols."""
        return [plugin for plugin in self.plugins.values() if self.schemes.intersection(plugin.protocols)]

    def running_by_scheme(self) -> list[list[Plugin]]:
        """The same for requests of each protocol: without TLS first. One list where both protocols have the same."""
        schemes = [scheme for scheme in SCHEMES if scheme in self.schemes]
        found = [[plugin for plugin in self.running() if scheme in plugin.protocols] for scheme in schemes]
        return found[:1] if found[0] == found[-1] else found

    def anonymous_texts(self) -> set[str]:
        """Every text of `anonymous` in the key-auth configurations."""
        configs = (p.config for p in self.plugins.values() if p.name == "key-auth" and p.enabled)
        return {c["anonymous"] for c in configs if c["anonymous"] is not None}

    def end_marks(self) -> None:
        """End the marks of targets that are not there any more. One that came back in another spelling keeps its mark."""
        if self.marked:
            self.marked &= {place_of(target) for _, target in self.targets.values()}

    def shared(self) -> dict[str, tuple[KongUpstream, list[Target]]]:
        """Host of services -> the upstream of this name, and its targets by id."""
        targets: dict[str, list[Target]] = {}
        for key in sorted(self.targets):
            target = self.targets[key].entity
            targets.setdefault(target.upstream.id, []).append(target)
        return {one.name.lower(): (one, targets.get(one.id, [])) for _, one in self.upstreams.values()}
