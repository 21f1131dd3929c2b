cimport cython
from penstock._kernel.native cimport Lock, lock_drop, lock_take
from penstock._kernel.seam cimport SEAM, Seam
from penstock._kernel.waiters cimport Waiter

@cython.locals(seconds=double)
cdef double number(object value, str name, str kind) except? -1.0

cdef class Timer:
    cdef double deadline
    cdef Py_ssize_t position
    cdef bint inherited
    cdef object __weakref__
    cdef void expire(self) except *

@cython.final
cdef class Inherited:
    cdef Timer _timer

@cython.final
cdef class TimerService:
    cdef Lock _lock
    cdef list _heap
    cdef bint _serving
    cdef double _wakes_at
    cdef Waiter _sleeper
    @cython.locals(start=bint, sleeper=Waiter)
    cdef void add(self, Timer timer, double deadline) except *
    cdef bint remove(self, Timer timer) noexcept
    @cython.locals(last=Timer, at=Py_ssize_t)
    cdef void _take_out(self, Timer timer) noexcept
    @cython.locals(parent=Timer, above=Py_ssize_t)
    cdef void _rise(self, Timer timer, Py_ssize_t at) noexcept
    @cython.locals(child=Timer, other=Timer, below=Py_ssize_t, size=Py_ssize_t)
    cdef void _sink(self, Timer timer, Py_ssize_t at) noexcept
    @cython.locals(timer=Timer)
    cdef void _take_due(self, list due, double now) noexcept
    @cython.locals(timer=Timer, sleeper=Waiter, now=double, wakes_at=double)
    cpdef _serve(self)
    @cython.locals(timer=Timer)
    cdef void _inherit(self) noexcept
    @cython.locals(ident="unsigned long")
    cdef unsigned long idle_thread(self) noexcept

cdef TimerService TIMERS
