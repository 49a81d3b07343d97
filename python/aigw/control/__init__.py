"""The control plane: entities -> store -> compile -> publish. `open_control` (in `process`) puts it together; the request
path never imports this package, and meets it only in the files of the snapshot. Names are loaded when first asked for:
the Admin API, which `process` builds, itself stands on the modules below it.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aigw.control.process import Control, ControlSettings, open_control

__all__ = ["Control", "ControlSettings", "open_control"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(name)
    from aigw.control import process  # noqa: PLC0415

    return getattr(process, name)
