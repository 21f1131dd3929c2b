cimport cython
from penstock._kernel.native cimport (
    Items, Lock, ambient_bind, ambient_get, immortal, items_of, lock_drop, lock_take, moved, ring_put, ring_take,
    shared,
)
from penstock._kernel.loops cimport TaskWaiter
from penstock._kernel.operations cimport FOREVER, deadline_after, park
from penstock._kernel.scopes cimport AMBIENT, Scope
from penstock._kernel.seam cimport SEAM, Runtime, Seam
from penstock._kernel.waiters cimport DONE, Done, Node, Queue, Source, Waiter, chained, wake_all, new_node

cdef object EMPTY
cdef object CLOSED

cdef enum:
    RECEIVE = 0
    SEND = 1

cdef enum:
    FULL = 0
    SENT = 1
    SHUT = 2

cdef class ChannelCore(Source):
    # What `offered` and `poll` use comes first, beside the lock; see pk_gap.
    cdef Py_ssize_t _count
    cdef Py_ssize_t _head
    cdef Py_ssize_t _size
    cdef Items _items
    cdef Queue _receivers
    cdef Queue _senders
    cdef list _returned
    cdef list _ring
    cdef Py_ssize_t _capacity
    cdef long long _ticket
    cdef long long _accepted
    cdef bint _closed
    cdef object _error
    cdef object _name

    cdef bint receivable(self) except -1
    cdef bint sendable(self) except -1
    cdef Py_ssize_t _held(self) noexcept
    @cython.locals(slot=object, sender=Node, waiter=Waiter, node=Node)
    cdef object receive_locked(self, Node receiver)
    @cython.locals(receiver=Node)
    cdef int send_locked(self, object value, Node sender) except -1
    cdef Waiter take_woken(self)
    cdef Waiter _woken
    @cython.locals(waiter=Waiter, node=Node)
    cdef object receive(self, Node receiver)
    @cython.locals(waiter=Waiter, outcome=int)
    cdef int send_value(self, object value, Node sender) except -1
    @cython.locals(at=Py_ssize_t)
    cdef object _take(self)
    @cython.locals(at=Py_ssize_t)
    cdef void _place(self, object slot) noexcept
    cdef bint _put(self, object slot) except -1
    @cython.locals(size=Py_ssize_t, room=Py_ssize_t, at=Py_ssize_t)
    cdef bint _grow(self) except -1
    @cython.locals(receiver=Node, waiter=Waiter, at=Py_ssize_t)
    cdef bint _take_back_received(self, Node node)
    @cython.locals(other=Node)
    cdef bint _is_later(self, Py_ssize_t at, Node node)
    @cython.locals(sender=Node, waiter=Waiter, at=Py_ssize_t, size=Py_ssize_t, to=Py_ssize_t, offset=Py_ssize_t)
    cdef bint _take_back_sent(self, Node node)
    @cython.locals(node=Node, waiter=Waiter)
    cdef object _park_receive(self, object timeout, str operation, str instead)
    @cython.locals(node=Node, waiter=Waiter, outcome=int)
    cdef object _park_send(self, object value, object timeout)
    @cython.locals(waiter=TaskWaiter, node=Node, deadline=double)
    cpdef receive_or_wait(self, object timeout, str operation)
    @cython.locals(waiter=TaskWaiter, node=Node, outcome=int, deadline=double)
    cpdef send_or_wait(self, object value, object timeout)
    @cython.locals(node=Node)
    cpdef finish_receive(self, TaskWaiter waiter)
    cpdef value_or_wait(self, object timeout)
    cpdef finish_value(self, TaskWaiter waiter)
    @cython.locals(node=Node)
    cpdef finish_send(self, TaskWaiter waiter)
    @cython.locals(scope=Scope, node=Node)
    cdef object poll(self)
    @cython.locals(scope=Scope)
    cdef bint offered(self, object value) except -1
    @cython.locals(scope=Scope)
    cpdef asend(self, object value, object timeout=*)
    @cython.locals(first=Waiter, last=Waiter, node=Node, ours=bint)
    cpdef close(self, object error=*)
    @cython.locals(failed=bint)
    cdef bint has_failed(self) noexcept
    cpdef object closed_error(self)

@cython.final
cdef class SendCase:
    cdef object __weakref__
    cdef readonly ChannelCore channel
    cdef readonly object value
    cdef int state

cdef class SenderCore:
    cdef readonly ChannelCore _channel
    cdef object __weakref__

cdef class ReceiverCore:
    cdef readonly ChannelCore _channel
    cdef object __weakref__
