"""What every test starts from: one thread, so that a training rounds alike wherever it runs."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported, and for the processes tests start
