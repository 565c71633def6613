"""papermill in a process that ends, kernel and all, when the process that started it does.

`python -m semisiam.run.child` takes papermill's own arguments. Its standard input must be a pipe
that its parent holds open and never writes to. The descriptor in SEMISIAM_LOCK is handed on to the
kernel, so that the cell's folder stays locked as long as anybody computes there.
"""

import os
import sys
import threading
from contextlib import suppress
from functools import partialmethod

import psutil

# jsonschema's optional check of web addresses, which no notebook needs, takes most of papermill's
# time to start: 1.3 s for every cell.
sys.modules["rfc3987_syntax"] = None

from ipykernel.kernelspec import make_ipkernel_cmd  # noqa: E402
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager  # noqa: E402
from papermill.cli import papermill  # noqa: E402
from papermill.clientwrap import PapermillNotebookClient  # noqa: E402

# A kernel with TensorFlow takes up to 3 s to leave in good order, and has nothing left to say.
PapermillNotebookClient.shutdown_kernel.default_value = "immediate"


def end_with_parent() -> None:
    """Wait for the end of the parent, then end all children and this process."""
    os.read(0, 1)
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            process.kill()
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=end_with_parent, daemon=True).start()
    # kernels of this very Python, whatever `python3` is for this user
    spec = KernelSpec(argv=make_ipkernel_cmd(), display_name="Python 3", language="python")
    KernelSpecManager.get_kernel_spec = lambda self, name: spec
    lock = [int(os.environ["SEMISIAM_LOCK"])]
    PapermillNotebookClient.execute = partialmethod(PapermillNotebookClient.execute, pass_fds=lock)
    papermill()
