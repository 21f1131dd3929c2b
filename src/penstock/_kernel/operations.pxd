cimport cython
from penstock._kernel.native cimport atomic_load, EXPIRED
from penstock._kernel.scopes cimport Scope, ambient
from penstock._kernel.seam cimport SEAM, Runtime, Seam
from penstock._kernel.timers cimport Timer, number
from penstock._kernel.waiters cimport Node, Source, Waiter, new_node

cdef double FOREVER

@cython.final
cdef class Expiry(Timer):
    cdef Waiter _waiter

@cython.locals(seconds=double)
cdef double deadline_after(object timeout) except? -1.0
@cython.locals(scope=Scope, node=Node)
cdef Node watch_ambient(Waiter waiter)
cdef void note(Waiter waiter, double deadline, str operation) noexcept
@cython.locals(expiry=Expiry)
cdef Expiry expire_at(Waiter waiter, double deadline)
@cython.locals(scope_node=Node)
cdef Node park(Waiter waiter, double deadline, str operation, bint shielded=*)
@cython.locals(node=Node, scope=Scope, state=int)
cdef Node settle(Waiter waiter, Node scope_node, str operation)
