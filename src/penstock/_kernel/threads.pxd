cimport cython
from penstock._kernel.native cimport Lock, disown, lock_drop, lock_take, monotonic, random_below, thread_ident
from penstock._kernel.loops cimport TaskWaiter, interrupter_for, new_task_waiter, refuse_in_loop
from penstock._kernel.parking cimport (
    Parker, parker_free, parker_park, parker_sleepers, parker_wake, parking_after_fork, raise_soon,
)
from penstock._kernel.operations cimport FOREVER
from penstock._kernel.seam cimport SEAM, Interruption, Runtime, Seam
from penstock._kernel.timers cimport TIMERS, TimerService
from penstock._kernel.waiters cimport Node, Source, Waiter

cdef unsigned long main_thread

@cython.final
cdef class Lookout:
    cdef object look

cdef Lookout LOOKOUT

@cython.final
cdef class ThreadWaiter(Waiter):
    cdef Parker _parker
    cdef bint _in_main_thread
    @cython.locals(seconds=double)
    cdef void _park_looking(self) except *

@cython.locals(waiter=ThreadWaiter)
cdef ThreadWaiter new_thread_waiter()

@cython.final
cdef class Worker:
    cdef object _job
    cdef ThreadWaiter _sleeper
    cdef Worker _below

@cython.final
cdef class Workers:
    cdef Lock _lock
    cdef Worker _idle
    cdef Py_ssize_t _count
    @cython.locals(worker=Worker, sleeper=ThreadWaiter)
    cdef void start(self, object function) except *
    @cython.locals(worker=Worker, sleeper=ThreadWaiter, retired=bint)
    cpdef _work(self, Worker worker)
    @cython.locals(worker=Worker, idents=list)
    cdef list idle(self)
    @cython.locals(above=Worker)
    cdef bint _retire(self, Worker worker) noexcept

cdef Workers WORKERS

@cython.final
cdef class Real(Runtime):
    pass
