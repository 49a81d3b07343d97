"""`aigw serve`: the gateway. Its options are rows of the settings table."""

from collections.abc import Callable
from dataclasses import fields
from typing import Any, Final

import click

from aigw.cli.arguments import Verb
from aigw.settings import Settings, check_proxies, load, variable

OPTIONS: Final[dict[str, str]] = {
    "config": "FILE",
    "data": "FOLDER",
    "proxy": "HOST:PORT",
    "proxy_tls": "HOST:PORT",
    "admin": "HOST:PORT",
    "workers": "NUMBER",
    "drain_timeout": "SECONDS",
    "access_log": "FILE",
    "log_format": "FORMAT",
    "tls_cert": "FILE",
    "tls_key": "FILE",
}
"""Settings with an option, and the name of the option's value. `load` parses the text: an option's as its variable's."""


def _options(function: Callable[..., Any]) -> Callable[..., Any]:
    rows = {setting.name: setting.metadata for setting in fields(Settings)}
    for name, value in reversed(OPTIONS.items()):
        default = "the number of cores" if name == "workers" else rows[name]["default"]
        facts = f"env var: {variable(name)}" + (f"; default: {default}" if default else "")
        flag = "--" + name.replace("_", "-")
        function = click.option(flag, name, metavar=value, help=f"{rows[name]['doc']}  [{facts}]")(function)
    return function


@click.command(cls=Verb)
@_options
def serve(**given: str | None) -> int:
    """Run the gateway until SIGTERM.

    With --config the file declares entities, in addition to those of the
    Admin API; the gateway reads it again when it changes. An error in the
    file ends the start; later the gateway logs the error and keeps the
    configuration in force. Without --config the entities that an earlier
    file declared stay, read-only, and the log says so; --config none
    deletes them. With another file, entities that are not in it are
    deleted.

    SIGTERM drains: requests in flight finish. A second SIGTERM ends the
    process at once. SIGHUP reads the file and the TLS certificate again;
    both are also read when they change.

    Needs: two free ports and a data folder that no other gateway uses.
    Off loopback the Admin API needs AIGW_ADMIN_TOKEN. Settings without an
    option: docs/reference/settings.md.

    For example:

        aigw serve --config tiers.yaml
        AIGW_ADMIN_TOKEN=... aigw serve --admin 0.0.0.0:8001

    Exit codes: 0 after SIGTERM, 2 for a wrong option, an error in the
    file, or a port or data folder in use, 1 for any other failure.
    """
    settings = load(given)
    check_proxies()
    from aigw.serve.supervisor import Supervisor  # noqa: PLC0415  (start-up of the other verbs)

    return Supervisor(settings).run()
