"""papermill in a process that ends, kernel and all, when the process that started it does.

`python -m semisiam.run.child` takes papermill's own arguments. Its standard input must be a pipe
that its parent holds open and never writes to.
"""

import os
import sys
import threading

import psutil

# jsonschema's optional check of web addresses, which no notebook needs, takes most of papermill's
# time to start: 1.3 s for every cell.
sys.modules["rfc3987_syntax"] = None

from papermill.cli import papermill  # noqa: E402
from papermill.clientwrap import PapermillNotebookClient  # noqa: E402

# A kernel with TensorFlow takes up to 3 s to leave in good order, and has nothing left to say.
PapermillNotebookClient.shutdown_kernel.default_value = "immediate"


def end_with_parent() -> None:
    """Wait for the end of the parent, then end all children and this process."""
    os.read(0, 1)
    for process in psutil.Process().children(recursive=True):
        process.kill()
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=end_with_parent, daemon=True).start()
    papermill()
