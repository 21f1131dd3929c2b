cimport cython
from penstock._kernel.loops cimport interrupter_for, new_task_waiter, refuse_in_loop
from penstock._kernel.native cimport LOCKS, dict_get, thread_ident
from penstock._kernel.operations cimport FOREVER
from penstock._kernel.seam cimport SEAM, Interruption, Runtime, Seam
from penstock._kernel.threads cimport ThreadWaiter, new_thread_waiter
from penstock._kernel.timers cimport Timer
from penstock._kernel.waiters cimport Node, Waiter

@cython.final
cdef class SimulatedWaiter(Waiter):
    cdef public object world
    cdef public object seat

@cython.final
cdef class Simulated(Runtime):
    cdef Runtime real
    cdef readonly dict worlds
    cdef Py_ssize_t installed
    cpdef object world(self)

@cython.final
cdef class Seat:
    cdef ThreadWaiter _next
    cdef object _occupied
    cdef bint _roused

cdef Simulated SIMULATED

cpdef expire(Timer timer)
cpdef str operation_of(Waiter waiter)
