cimport cython
from penstock._kernel.native cimport (
    Atomic, Lock, atomic_cas, atomic_load, dict_get, lock_drop, lock_take, thread_ident,
)
from penstock._kernel.operations cimport Expiry, deadline_after, expire_at, note, settle, watch_ambient, FOREVER
from penstock._kernel.scopes cimport Scope
from penstock._kernel.seam cimport SEAM, Interruption, Runtime, Seam
from penstock._kernel.waiters cimport Node, Source, Waiter

cdef object get_running_loop
cdef object Future
cdef object CancelledError
cdef object InvalidStateError
cdef object current_task
cdef object Task
cdef object EventLoop
cdef dict modules
cdef dict ports

@cython.final
cdef class Binding:
    cdef Lock lock
    cdef Atomic bound

cdef Binding BINDING

cdef object running_loop()
cdef object asyncio_task()
cdef void refuse_in_loop(str operation, str instead) except *

@cython.final
cdef class Batch:
    cdef list items
    cdef object __weakref__

@cython.final
cdef class Port:
    cdef Lock _lock
    cdef object _loop
    cdef object _batch
    cdef object __weakref__
    @cython.locals(batch=Batch, fresh=Batch)
    cdef bint post(self, object loop, object item)
    @cython.locals(spare=list, items=list, current=object)
    cdef list _take(self, Batch batch)
    cpdef _drain(self, Batch batch)

@cython.locals(port=Port)
cdef Port port_of(object loop)

@cython.final
cdef class TaskWaiter(Waiter):
    cdef readonly object future
    cdef object _loop
    cdef Node _scope_node
    cdef Expiry _expiry
    cdef void prepare(self, double deadline, str operation, bint shielded) except *
    cpdef _woken(self)
    @cython.locals(scope_node=Node)
    cpdef Node settled(self)
    cdef void _disarm(self) except *

@cython.locals(waiter=TaskWaiter)
cdef TaskWaiter new_task_waiter()

@cython.final
cdef class Interrupter(Interruption):
    cdef Scope scope
    cdef object _loop
    cdef object _task
    cdef size_t _number
    cdef Py_ssize_t _cancelling
    cdef bint _delivered
    cdef bint _shown
    cdef bint _left
    @cython.locals(scope=Scope, outer=Scope, interrupter=Interruption)
    cpdef _deliver(self)

@cython.locals(interrupter=Interrupter)
cdef Interrupter interrupter_for(Scope scope)
