"""Where is what can be had again, but had better be kept?"""

import os
import sys
from pathlib import Path

__all__ = ["cache_off", "is_off", "user_cache_folder"]

_VARIABLE = "DDIM_INTERP_CACHE"
_OFF = ("", "0", "off", "no")  # of every variable of ours


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
    return is_off(_VARIABLE)


def is_off(variable: str) -> bool:
    """Whether a variable of the environment says `off`, in one of the words for it, or nothing.

    One that is not set is on.
    """
    return os.environ.get(variable, "on").lower() in _OFF
