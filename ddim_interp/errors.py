"""What can go wrong, and the exit code the command line ends with when it does.

    DdimInterpError                              70  our own bug, unless a child says otherwise
    ├── ArgumentError      (ValueError)           2  an argument that cannot be meant
    ├── ScheduleError      (ValueError)           2  a grid or a schedule that cannot be built
    ├── PathError          (ValueError)           2  keyframes that no path can join
    ├── NotInvertibleError (ValueError)           2  a step to be undone that lost information
    ├── ImageError         (ValueError)          65  a file that is no picture we can read
    ├── LatentsError       (ValueError)          65  a latent file broken, or another model's
    ├── TableError         (ValueError)          65  a list of films that cannot be read
    ├── InputMissingError  (FileNotFoundError)   66  a file or folder that is not there
    ├── HubError           (OSError)             69  the hub cannot be reached, or refuses
    ├── NonFiniteError     (ArithmeticError)     70  NaN or infinity in the solver's state
    ├── OutputError        (OSError)             73  an output that cannot be created
    ├── StorageError       (OSError)             74  reading or writing failed: disk full, device
    ├── BusyError          (RuntimeError)        75  locked, or out of memory: try again
    └── ModelError         (ValueError)          78  a model or a config that cannot be used

A message is one line and says what was given, why it cannot be, and what to do. The command line
prints it and exits with `exit_code`; anything that is not a `DdimInterpError` is a bug and keeps
its traceback.
"""

from typing import ClassVar

__all__ = [
    "ArgumentError",
    "BusyError",
    "DdimInterpError",
    "HubError",
    "ImageError",
    "InputMissingError",
    "LatentsError",
    "ModelError",
    "NonFiniteError",
    "NotInvertibleError",
    "OutputError",
    "PathError",
    "ScheduleError",
    "StorageError",
    "TableError",
]


class DdimInterpError(Exception):
    """Root of every error this package raises on purpose."""

    exit_code: ClassVar[int] = 70


class ArgumentError(DdimInterpError, ValueError):
    """An argument has a value that cannot be meant."""

    exit_code = 2


class ScheduleError(DdimInterpError, ValueError):
    """A noise schedule, or a grid of its levels, cannot be built."""

    exit_code = 2


class PathError(DdimInterpError, ValueError):
    """No path joins these keyframes."""

    exit_code = 2


class NotInvertibleError(DdimInterpError, ValueError):
    """A solver was asked to undo a step that lost information."""

    exit_code = 2


class ImageError(DdimInterpError, ValueError):
    """A file is not a picture that can be read."""

    exit_code = 65


class LatentsError(DdimInterpError, ValueError):
    """A latent file cannot be read, or belongs to another model."""

    exit_code = 65


class TableError(DdimInterpError, ValueError):
    """A list of films cannot be read, or names none."""

    exit_code = 65


class InputMissingError(DdimInterpError, FileNotFoundError):
    """An input file or folder is not there."""

    exit_code = 66


class HubError(DdimInterpError, OSError):
    """The model hub cannot be reached, or refuses."""

    exit_code = 69


class NonFiniteError(DdimInterpError, ArithmeticError):
    """NaN or infinity appeared in the solver's state."""

    exit_code = 70


class OutputError(DdimInterpError, OSError):
    """An output cannot be created."""

    exit_code = 73


class StorageError(DdimInterpError, OSError):
    """Reading or writing failed half-way: disk full, device error."""

    exit_code = 74


class BusyError(DdimInterpError, RuntimeError):
    """Another run holds the lock, or memory ran out: the same command may pass later."""

    exit_code = 75


class ModelError(DdimInterpError, ValueError):
    """A model folder, its weights or a config cannot be used."""

    exit_code = 78
