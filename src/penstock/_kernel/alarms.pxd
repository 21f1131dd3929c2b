cimport cython
from penstock._kernel.channel cimport CLOSED, EMPTY, ChannelCore
from penstock._kernel.loops cimport TaskWaiter
from penstock._kernel.native cimport Lock, lock_drop, lock_take
from penstock._kernel.operations cimport deadline_after, park
from penstock._kernel.scopes cimport check_ambient
from penstock._kernel.seam cimport SEAM, Runtime, Seam
from penstock._kernel.timers cimport Timer, number
from penstock._kernel.waiters cimport Node, Source, Waiter, wake_all

cdef class Alarm(Timer):
    cdef object _channel
    cdef double _period
    cdef double _due
    cdef bint _armed
    @cython.locals(channel=ChannelCore, now=double, waiter=Waiter)
    cdef void expire(self) except *
    @cython.locals(pending=bint, channel=ChannelCore)
    cpdef bint stop(self) except -1
    @cython.locals(pending=bint, due=double, channel=ChannelCore)
    cpdef bint start(self, double seconds, double period) except -1
    @cython.locals(told=bint, done=bint, armed=bint, due=double)
    cdef void _tell(self, ChannelCore channel) except *

cdef bint drained(ChannelCore channel)
@cython.locals(waiter=Waiter, deadline=double)
cpdef sleep(object seconds)
@cython.locals(waiter=TaskWaiter, deadline=double)
cpdef begin_sleep(object seconds)
