from penstock._kernel.native cimport (
    EXPIRED, FIRED, WAITING, WITHDRAWN, Atomic, Gap, Lock, atomic_cas, atomic_load, guarded_cas, lock_drop, lock_take,
    shared, thread_ident,
)
cimport cython

cdef int generation

@cython.final
@cython.freelist(64)
cdef class Node:
    cdef Waiter waiter
    cdef Source source
    cdef Queue queue
    cdef Node previous
    cdef Node next
    cdef Node sibling
    cdef object value
    cdef Py_ssize_t amount
    cdef Py_ssize_t index
    cdef double since
    cdef int slot
    cdef int kind
    cdef bint ok
    cdef bint fire(self) noexcept
    cdef bint waiting(self) noexcept

@cython.locals(node=Node)
cdef Node new_node(Waiter waiter, Source source, int kind, object value)

@cython.final
cdef class Queue:
    cdef Node first
    cdef Node last
    cdef void append(self, Node node) noexcept
    cdef void prepend(self, Node node) noexcept
    cdef void insert_before(self, Node node, Node later) noexcept
    cdef void remove(self, Node node) noexcept
    @cython.locals(node=Node)
    cdef Node next_waiting(self)
    @cython.locals(node=Node)
    cdef Node fire_next(self)
    @cython.locals(node=Node, count=Py_ssize_t)
    cdef Py_ssize_t count(self) noexcept

cdef class Source:
    cdef object __weakref__
    cdef Gap _gap
    cdef Lock _lock
    cdef Waiter _departed(self, Node node)
    @cython.locals(chain=Waiter)
    cdef bint discard(self, Node node) except -1
    cdef bint take_back(self, Node node) except -1
    cdef void synchronise(self) noexcept

cdef class Waiter:
    cdef Atomic _state
    cdef Atomic _leaving
    cdef int _generation
    cdef int _slots
    cdef bint _patient
    cdef unsigned long _ident
    cdef str _operation
    cdef double _since
    cdef double _deadline
    cdef object _failure
    cdef Waiter _next
    cdef Node _nodes
    cdef object __weakref__
    cdef void begin(self) noexcept
    cdef void add(self, Node node) noexcept
    cdef bint waiting(self) noexcept
    cdef bint expire(self) noexcept
    cdef bint fail(self, object error) noexcept
    @cython.locals(node=Node, state=int)
    cdef Node fired(self)
    @cython.locals(node=Node)
    cdef bint discard_nodes(self, Node fired) except -1
    @cython.locals(node=Node, following=Node, fired=Node)
    cdef Node leave_queues(self, int slot)
    @cython.locals(node=Node, state=int)
    cdef bint retract(self) except -1
    cdef bint wake(self) except -1
    cdef void park(self, double deadline)  except *
    cdef void redeliver(self, object error) except *

cdef Waiter chained(Waiter first, Waiter last, Waiter added)
@cython.locals(following=Waiter)
cdef bint wake_all(Waiter waiter) except -1

@cython.final
cdef class Done:
    pass

cdef Done DONE
