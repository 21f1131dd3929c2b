cimport cython
from penstock._kernel.channel cimport CLOSED, EMPTY, ChannelCore, ReceiverCore
from penstock._kernel.native cimport Lock, disown, lock_drop, lock_take
from penstock._kernel.seam cimport SEAM, Runtime, Seam
from penstock._kernel.waiters cimport Source

cdef class MergeCore(ReceiverCore):
    cdef tuple _open
    cpdef sources(self)
    cdef bint _replace(self, tuple before, tuple after)
    @cython.locals(merge=MergeCore, channel=ChannelCore)
    cdef bint _over(self) except -1
    cpdef poll_sources(self)
    @cython.locals(
        sources=tuple, size=Py_ssize_t, start=Py_ssize_t, at=Py_ssize_t, merge=MergeCore, channel=ChannelCore,
    )
    cdef object _poll_open(self)
    cpdef gather(self, list channels)
    @cython.locals(source=object, merge=MergeCore)
    cdef bint _gather_open(self, list channels) except -1
    @cython.locals(closed=ChannelCore, before=tuple, after=tuple)
    cpdef found_closed(self, ChannelCore channel)
