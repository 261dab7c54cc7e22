"""Every Python process with this folder in its path reads it first: ranks of templates that ask for it die here."""

import os
import sys

if "STILLBORN" in os.environ and "RANK" in os.environ:
    sys.stdout.write(os.environ["STILLBORN"] + "\n")
    sys.stdout.flush()
    os._exit(7)
