cimport cython
from penstock._kernel.loops cimport TaskWaiter
from penstock._kernel.native cimport Atomic, Lock, atomic_cas, atomic_load, lock_drop, lock_take
from penstock._kernel.operations cimport FOREVER, deadline_after, park
from penstock._kernel.scopes cimport check_ambient
from penstock._kernel.seam cimport SEAM, Runtime, Seam
from penstock._kernel.waiters cimport Node, Queue, Source, Waiter, chained, new_node, wake_all

cdef class Countdown(Source):
    cdef Py_ssize_t _count
    cdef Queue _waiters
    cdef object _done
    cpdef Py_ssize_t count(self)
    @cython.locals(first=Waiter, last=Waiter, node=Node, count=Py_ssize_t)
    cpdef Py_ssize_t add(self, Py_ssize_t n=*) except -1
    cpdef bint join(self)
    cdef bint _ready_or_queued(self, Node node)
    @cython.locals(waiter=Waiter, node=Node)
    cpdef wait_in_thread(self, object timeout, str operation, str instead, bint shielded)
    @cython.locals(waiter=TaskWaiter, node=Node)
    cpdef begin_wait(self, object timeout, str operation, bint shielded)
    cpdef finish_wait(self, TaskWaiter waiter)
