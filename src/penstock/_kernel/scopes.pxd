cimport cython
from penstock._kernel.native cimport (
    Atomic, Lock, atomic_cas, atomic_load, ambient_bind, ambient_get, ambient_reset, ambient_set, lock_drop,
    lock_take, new_instance,
)
from penstock._kernel.seam cimport SEAM, Interruption, Runtime, Seam
from penstock._kernel.timers cimport Timer, number
from penstock._kernel.waiters cimport DONE, Done, Node, Queue, Source, Waiter, chained, wake_all

cdef object AMBIENT
cdef double NEVER
cdef Scope BACKGROUND

@cython.final
cdef class Deadline(Timer):
    cdef Scope _scope

cdef class Scope(Source):
    cdef public Scope parent
    cdef Scope _forebear
    cdef Scope _first_child
    cdef Scope _previous_sibling
    cdef Scope _next_sibling
    cdef bint _linked
    cdef bint _goes_on
    cdef Atomic _over
    cdef Atomic _entries
    cdef bint _by_deadline
    cdef bint _quiet
    cdef bint _has_value
    cdef Scope _origin
    cdef object _error
    cdef object _given_cause
    cdef object _timeout_cause
    cdef object _key
    cdef object _value
    cdef double _deadline
    cdef Scope _timed
    cdef Deadline _timer
    cdef Queue _waiters
    cdef object _done
    cdef object _token
    cdef Scope _outer
    cdef Interruption _interrupter
    @cython.locals(child=Scope, timer=Deadline)
    cdef Scope derive(self, double deadline, double now, object cause)
    cdef bint _link(self, Scope child) noexcept
    cdef void _unlink(self, Scope child) noexcept
    cdef Scope origin(self)
    cdef Scope timed(self)
    @cython.locals(timed=Scope)
    cdef bint over(self) except -1
    @cython.locals(interrupter=Interruption)
    cpdef Interruption interrupter(self)
    @cython.locals(outer=Scope)
    cdef Scope outer(self)
    @cython.locals(old=Scope)
    cdef Scope _exchange_outer(self, Scope new)
    @cython.locals(old=Interruption)
    cdef Interruption _exchange_interrupter(self, Interruption new)
    @cython.locals(interrupter=Interruption, outer=Scope)
    cpdef Scope _tell_interrupter(self)
    cdef bint end(self, Scope origin, bint by_deadline, object cause) except *
    @cython.locals(below=list, scope=Scope, child=Scope, interrupters=list, interrupter=Interruption)
    cdef void _end_below(self, Scope origin, bint by_deadline) except *
    cdef bint _end_one(self, Scope origin, bint by_deadline, object cause) except *
    @cython.locals(child=Scope)
    cdef Scope _take_child(self)
    @cython.locals(node=Node, first=Waiter, last=Waiter)
    cdef Waiter _fire_waiters(self)
    cdef void on_end(self) except *
    @cython.locals(spare=Queue)
    cdef bint enlist(self, Node node) except -1
    @cython.locals(origin=Scope)
    cdef object cancellation(self)
    cdef object shown_cancellation(self)
    cdef bint require(self) except -1
    cdef void _enter(self) except *
    cdef void _leave(self) except *
    @cython.locals(now=double)
    cpdef with_timeout(self, object seconds, object cause=*)
    @cython.locals(now=double)
    cpdef with_deadline(self, object deadline, object cause=*)
    @cython.locals(child=Scope)
    cpdef with_value(self, object key, object value)
    @cython.locals(callback=Callback)
    cpdef call_at_end(self, object function)
    cdef bint _edge(self, object error, bint mine) except *

@cython.final
cdef class Callback(Scope):
    cdef object _job

@cython.locals(scope=Scope)
cdef Scope ambient()
@cython.locals(scope=Scope)
cdef void check_ambient() except *

@cython.locals(scope=Scope)
cpdef current()
@cython.locals(scope=Scope)
cpdef cancel_scope()
@cython.locals(scope=Scope)
cpdef fail_after(object seconds)
@cython.locals(scope=Scope, child=Scope)
cpdef move_on_after(object seconds)
