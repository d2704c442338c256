"""What is wanted of the hub: a repository at a revision, and some of its files, told by name."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from ddim_interp.errors import ModelError
from ddim_interp.files import shown
from ddim_interp.model_folder import BARE, Parts, find_parts

__all__ = ["Wanted", "is_commit"]

_PLAIN = re.compile(r"\w[\w .+-]*(?:/\w[\w .+-]*)*")  # a path that stays where it is put
_COMMIT = re.compile(r"[0-9a-f]{40}")


def is_commit(revision: str) -> bool:
    """Whether a revision is the full name of a commit, which always means the same files."""
    return _COMMIT.fullmatch(revision) is not None


@dataclass(frozen=True)
class Wanted:
    """A model of the hub, as its user asked for it.

    Args:
        repo: `org/name`.
        revision: A branch, tag or commit.
        variant: Which weights, if there are several.
        cache_dir: The folder for what is fetched; the hub's own cache if None.
        pickles: Whether weights may be pickles, and the model a bare checkpoint.
        file: Which bare checkpoint, if there are several.
    """

    repo: str
    revision: str
    variant: str | None
    cache_dir: Path | None
    pickles: bool
    file: str | None

    @property
    def called(self) -> str:
        """What messages call it."""
        return self.repo if self.revision == "main" else f"{self.repo}@{self.revision}"

    def parts(self, names: Collection[str]) -> Parts:
        """The parts of the model among these files.

        Raises:
            ModelError: Config or weights are missing.
        """
        return find_parts(names, self.called, variant=self.variant, pickled=self.pickles)

    def bare(self, names: Collection[str]) -> list[str]:
        """The bare checkpoint among these files, and the `.yml` beside it if there is just one.

        Raises:
            ModelError: There is none, or several and none was named.
        """
        found = sorted(n for n in names if n.endswith(BARE) and _PLAIN.fullmatch(n))
        chosen = [name for name in found if self.file in (None, name)]
        if self.file and not chosen:
            raise ModelError(
                f"{self.called} holds no checkpoint {shown(self.file)}; it has "
                f"{', '.join(map(shown, found[:8])) or 'none'}."
            )
        if len(chosen) > 1:
            first = ", ".join(map(shown, chosen[:8])) + (" …" if len(chosen) > 8 else "")
            raise ModelError(
                f"{self.called} holds {len(chosen)} checkpoints ({first}); name one with --file."
            )
        if not chosen:
            raise ModelError(f"{self.called} holds no model and no checkpoint; check the name.")
        (name,) = chosen
        place = name.rpartition("/")[0]
        beside = [n for n in names if n.rpartition("/")[0] == place and _PLAIN.fullmatch(n)]
        ymls = [n for n in beside if n.endswith((".yml", ".yaml"))]
        return [name, *(ymls if len(ymls) == 1 else [])]
