"""`aigw serve`: the gateway."""

from typing import Annotated

from aigw.cli.arguments import Parameter, Usage
from aigw.settings import load

# Texts, not values: each is parsed by its row of the settings table, as its variable is.
Text = str | None


def serve(
    *,
    config: Annotated[Text, Parameter("configuration file [default: the Admin API rules]")] = None,
    data: Annotated[Text, Parameter("data folder [default: ./aigw-data]")] = None,
    proxy: Annotated[Text, Parameter("HOST:PORT that clients call [default: 127.0.0.1:8000]")] = None,
    admin: Annotated[Text, Parameter("HOST:PORT of the Admin API [default: 127.0.0.1:8001]")] = None,
    workers: Annotated[Text, Parameter("proxy workers [default: one per core]")] = None,
    drain_timeout: Annotated[Text, Parameter("seconds for requests in flight on SIGTERM [default: 30]")] = None,
    access_log: Annotated[Text, Parameter("'-', 'off' or a path, JSON lines [default: off]")] = None,
    log_format: Annotated[Text, Parameter("json or console [default: console]")] = None,
    tls_cert: Annotated[Text, Parameter("PEM certificate chain of the proxy address")] = None,
    tls_key: Annotated[Text, Parameter("PEM private key of the proxy address")] = None,
) -> int:
    """Serve the gateway until SIGTERM.

    SIGTERM drains, a second one ends it at once; SIGHUP reloads, and
    never restarts, it. Every option has a variable, AIGW_<NAME>, and so
    have settings without an option: see docs/reference/settings.md.

    With --config the file declares what is in force, beside what the
    Admin API makes, and is read again when it changes. A file with
    errors ends the start (exit code 2); later it leaves in force what
    was. Started without --config, what a file declared is deleted.

    For example:

        aigw serve --config tiers.yaml
        AIGW_ADMIN_TOKEN=... aigw serve --admin 0.0.0.0:8001
    """
    given = {
        "config": config,
        "data": data,
        "proxy": proxy,
        "admin": admin,
        "workers": workers,
        "drain_timeout": drain_timeout,
        "access_log": access_log,
        "log_format": log_format,
        "tls_cert": tls_cert,
        "tls_key": tls_key,
    }
    for name, text in given.items():
        if text == "":  # a variable that is not set: without --config, what the file declared would be deleted
            raise Usage(f"--{name.replace('_', '-')} is empty: give it a value, or leave it out.")
    settings = load(given)
    from aigw.serve.supervisor import Supervisor  # noqa: PLC0415  (start-up of the other verbs)

    return Supervisor(settings).run()
