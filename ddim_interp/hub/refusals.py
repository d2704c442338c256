"""What is the user told when the hub's client failed? One line: what happened, and what to do."""

import errno
import os
from typing import Any
from urllib.parse import urlsplit

from ddim_interp.errors import DdimInterpError, HubError, OutputError, StorageError
from ddim_interp.files import DISK_ERRORS, disk_remedy, shown
from ddim_interp.hub.cache import storage
from ddim_interp.hub.wanted import Wanted

__all__ = ["refusal"]


def refusal(error: BaseException, wanted: Wanted) -> DdimInterpError:
    """What to tell the user when the hub's client failed."""
    from huggingface_hub import constants, errors

    hub = f"The hub ({urlsplit(constants.ENDPOINT).hostname})"
    causes = [error, error.__cause__]
    if response := next(filter(None, (getattr(e, "response", None) for e in causes)), None):
        return HubError(f"{hub} {_answer(response, error, wanted)}")
    number = getattr(error, "errno", None)
    if isinstance(error, OSError) and number in DISK_ERRORS:
        return StorageError(
            f"The cache {shown(storage(wanted))} cannot take {wanted.called}: "
            f"{os.strerror(number).lower()}; "
            f"{disk_remedy(error, 'set HF_HOME to another disk')}."
        )
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return OutputError(
            f"The cache {shown(storage(wanted))} may not be written to; set HF_HOME to a folder "
            "that may."
        )
    if any(
        isinstance(e, ValueError | TypeError | LookupError | errors.FileMetadataError)
        for e in causes
    ):
        return HubError(
            f"{hub} was asked for {wanted.called}, and something else answered; log in to the "
            "network, or check proxy and HF_ENDPOINT."
        )
    if type(error) is OSError:  # the client found another size than announced
        return HubError(f"{wanted.called} did not arrive whole from {hub}; try again.")
    return HubError(
        f"{hub} cannot be reached for {wanted.called} ({_brief(error)}); check the connection."
    )


def _answer(response: Any, error: BaseException, wanted: Wanted) -> str:
    """What a refusal in HTTP means, by its status."""
    from huggingface_hub.errors import RevisionNotFoundError

    status = response.status_code
    if status == 401:
        return (
            f"does not show {wanted.called} to strangers, or does not have it (401); check the "
            "name, and set HF_TOKEN to a token that may read it."
        )
    if status == 403:
        return (
            f"forbids {wanted.called} to this token (403); accept the terms on its page, or set "
            "HF_TOKEN to a token that may read it."
        )
    if isinstance(error, RevisionNotFoundError):
        return f"has {wanted.repo}, but no revision {wanted.revision} (404); check it."
    if status == 404:
        return f"has no {wanted.called} (404), and there is no such folder here; check the name."
    if status == 429:
        after = response.headers.get("Retry-After", "")
        when = f"in {after} s" if after.isdigit() and len(after) < 6 else "later"
        return f"was asked too often (429); try again {when}."
    if status >= 500:
        return f"is out of order ({status}); try again later."
    return f"refuses {wanted.called} ({status}); check the name."


def _brief(error: BaseException) -> str:
    """An error of the hub's client in a few words."""
    text = str(error.__cause__ or error).strip() or type(error).__name__
    return shown(text.splitlines()[0])[:80]
