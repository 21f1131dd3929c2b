"""What the kernel uses of Cython's `cython` module, for where Cython is not installed."""

from __future__ import annotations

compiled = False
