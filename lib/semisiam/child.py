"""papermill in a process that ends, kernel and all, when the process that started it does.

`python -m semisiam.child` takes papermill's own arguments. Its standard input must be a pipe that
its parent holds open and never writes to.
"""

import os
import threading

import psutil
from papermill.cli import papermill


def end_with_parent() -> None:
    """Wait for the end of the parent, then end all children and this process."""
    os.read(0, 1)
    for process in psutil.Process().children(recursive=True):
        process.kill()
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=end_with_parent, daemon=True).start()
    papermill()
