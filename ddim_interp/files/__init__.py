"""How a file comes to stand under its final name: whole, or not at all.

Everything the package writes is first written beside its final name, flushed to the disk, then
renamed. A reader, a crash or a full disk therefore meets the old file or the new one, never half of
one. A journal alone grows where it stands, by whole lines. No output is opened for writing anywhere
else.

    names        how a path is told in a message
    trouble      what an error of the operating system means, in words
    reading      a file that may be read
    parts        the temporary file beside an output, and who holds it
    writing      a file or a folder that appears when it is whole
    journal      a file that grows by a line at a time
    unfinished   what belongs to a whole run: its claim on an output, its work to go on with

Each call of the operating system goes through the name `os` of one of these modules, so that a test
can let any one of them fail.

A signal may raise an exception wherever Python calls something: after the system has created a file
and before anybody here knows of it, or while it is being removed. So a name is known before there
is a file of it, creating stands inside the `try` that tidies up, and tidying up, where it is
interrupted, begins again.
"""

from ddim_interp.files.journal import append_line, read_lines
from ddim_interp.files.names import StrPath, is_there, shown
from ddim_interp.files.parts import open_part, sweep_orphans
from ddim_interp.files.reading import list_input, open_input, sha256_bytes, sha256_file
from ddim_interp.files.trouble import DISK_ERRORS, disk_remedy
from ddim_interp.files.unfinished import claim, remove_work, work_folder, work_place
from ddim_interp.files.writing import (
    atomic_file,
    atomic_folder,
    check_not_input,
    check_output,
    lost_to,
    make_folder,
    write_bytes,
)

__all__ = [
    "DISK_ERRORS",
    "StrPath",
    "append_line",
    "atomic_file",
    "atomic_folder",
    "check_not_input",
    "check_output",
    "claim",
    "disk_remedy",
    "is_there",
    "list_input",
    "lost_to",
    "make_folder",
    "open_input",
    "open_part",
    "read_lines",
    "remove_work",
    "sha256_bytes",
    "sha256_file",
    "shown",
    "sweep_orphans",
    "work_folder",
    "work_place",
    "write_bytes",
]
