"""Where is what can be had again, but had better be kept?"""

import os
import sys
from pathlib import Path

__all__ = ["cache_off", "user_cache_folder"]

_VARIABLE = "DDIM_INTERP_CACHE"
_OFF = ("", "0", "off", "no")


def user_cache_folder(name: str) -> Path:
    """The folder of this name in the user's cache; it need not exist yet.

    The variable DDIM_INTERP_CACHE names another place for all of them.

    Example:
        >>> user_cache_folder("latents").name
        'latents'
    """
    named = os.environ.get(_VARIABLE)
    if named and not cache_off():
        return Path(named) / name
    home = Path("~").expanduser()
    if sys.platform == "darwin":
        caches = home / "Library" / "Caches"
    elif sys.platform == "win32":
        caches = Path(os.environ.get("LOCALAPPDATA") or home)
    else:
        caches = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    return caches / "ddim_interp" / name


def cache_off() -> bool:
    """Whether the user's pictures are not to be remembered: DDIM_INTERP_CACHE says `off`."""
    return os.environ.get(_VARIABLE, "on").lower() in _OFF
