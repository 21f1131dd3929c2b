cimport cython
from penstock._kernel.locks cimport Gate
from penstock._kernel.loops cimport TaskWaiter
from penstock._kernel.native cimport Atomic, Lock, atomic_load, guarded_cas, immortal, is_coroutine, lock_drop, lock_take
from penstock._kernel.operations cimport deadline_after, park
from penstock._kernel.scopes cimport check_ambient
from penstock._kernel.seam cimport SEAM, Runtime, Seam
from penstock._kernel.waiters cimport Node, Queue, Source, Waiter, chained, new_node, wake_all

cdef enum:
    OPEN = 0
    SETTLED = 1

cdef int ADMITTED
cdef int FULL
cdef object UNADMITTED

cdef class GaugeCore(Gate):
    cdef Py_ssize_t _limit
    cdef Py_ssize_t _in_flight
    cdef Py_ssize_t _admitted
    cdef Py_ssize_t _queue_size
    cdef bint _learning
    @cython.locals(admitted=bint, alone=bint)
    cpdef bint admit_now(self) except -1
    @cython.locals(turned_out=Node, waiter=Waiter, outcome=int, queued=Py_ssize_t)
    cdef int _join(self, Node node) except -2
    @cython.locals(refuses=bint)
    cdef bint _refuses(self, int priority) except -1
    @cython.locals(node=Node)
    cdef Node _last_below(self, int priority)
    @cython.locals(later=Node)
    cdef bint _stand(self, Node node, bint newest_first) except -1
    @cython.locals(waiter=Waiter, node=Node, deadline=double, outcome=int)
    cpdef int join_in_thread(self, int priority, object timeout) except -1
    @cython.locals(waiter=TaskWaiter, node=Node, deadline=double, outcome=int)
    cpdef object begin_join(self, int priority, object timeout)
    @cython.locals(node=Node)
    cpdef int finish_join(self, TaskWaiter waiter) except -1
    @cython.locals(chain=Waiter)
    cpdef leave(self)
    @cython.locals(chain=Waiter)
    cpdef set_limit(self, Py_ssize_t limit)
    @cython.locals(permit=Permit)
    cpdef permit(self)
    cpdef ended(self, double since)
    cpdef bint admit_in_context(self) except -1
    cpdef run_now(self, object function, tuple args)

@cython.final
cdef class Tally:
    cdef Lock _lock
    cdef long long _value
    cpdef add(self, long long n=*)

@cython.final
@cython.freelist(16)
cdef class Permit:
    cdef Atomic _state
    cdef readonly GaugeCore gauge
    cdef readonly double since
    cdef object __weakref__
    cpdef release(self)
    cpdef ignore(self)
    cdef bint _settle(self) except -1
    cdef bint _require_open(self) except -1
