cimport cython
from penstock._kernel.latch cimport Countdown
from penstock._kernel.locks cimport MutexCore, RWMutexCore
from penstock._kernel.loops cimport TaskWaiter
from penstock._kernel.native cimport WAITING, Lock, atomic_load, lock_drop, lock_take
from penstock._kernel.operations cimport FOREVER
from penstock._kernel.waiters cimport Node, Queue, Source, Waiter

@cython.final
cdef class Parked:
    cdef readonly Waiter waiter
    cdef readonly str operation
    cdef readonly double since
    cdef readonly object deadline
    cdef readonly unsigned long thread
    cdef readonly object future
    cdef readonly list places

@cython.locals(parked=Parked, task_waiter=TaskWaiter)
cdef Parked parked_by(Waiter waiter)
cdef bint is_waiting(Waiter waiter) noexcept
@cython.locals(source=Source, waiter=Waiter, operation=Parked)
cdef object add_place(Node node, dict parked)
cpdef bint still_parked(Parked parked)
cpdef bint fail(Parked parked, object error) except -1
cdef bint fail_waiter(Waiter waiter, object error) except -1
@cython.locals(held=bint, holder="unsigned long")
cdef object mutex_holder(MutexCore mutex)
@cython.locals(held=bint, holder="unsigned long")
cdef object rwmutex_holder(RWMutexCore mutex)
