# The part of Cython's `cython` module that the kernel uses, for type checkers.
from typing import final as final

compiled: bool
