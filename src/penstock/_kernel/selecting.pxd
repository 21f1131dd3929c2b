cimport cython
from penstock._kernel.channel cimport (
    CLOSED, EMPTY, FULL, RECEIVE, SEND, SENT, SHUT, ChannelCore, ReceiverCore, SendCase, SenderCore,
)
from penstock._kernel.loops cimport TaskWaiter
from penstock._kernel.native cimport LOCKS, Lock, address_of, lock_drop, lock_take, ring_put
from penstock._kernel.operations cimport deadline_after, park
from penstock._kernel.scopes cimport check_ambient
from penstock._kernel.seam cimport SEAM, Runtime, Seam
from penstock._kernel.waiters cimport Node, Queue, Source, Waiter, wake_all, new_node

cdef enum:
    UNUSED = 0
    SELECTING = 1
    SPENT = 2

cdef extern from "native.h":
    ChannelCore channel_at "item_at"(list, Py_ssize_t)

cdef object PARK

@cython.final
@cython.freelist(16)
cdef class Selected:
    cdef readonly Py_ssize_t index
    cdef readonly object channel
    cdef readonly object value
    cdef readonly bint ok

@cython.locals(sending=SendCase)
cdef Selected filled(Selected selected, Py_ssize_t index, object case, object value, bint ok)
@cython.locals(sending=SendCase, view=ReceiverCore)
cdef ChannelCore channel_of(object case)
@cython.locals(
    low=Py_ssize_t, high=Py_ssize_t, middle=Py_ssize_t, size=Py_ssize_t, at=Py_ssize_t, address=size_t, ordered=list,
    channel=ChannelCore,
)
cdef list in_order(list channels)
@cython.locals(channel=ChannelCore, at=Py_ssize_t)
cdef void lock_all(list ordered) noexcept
@cython.locals(channel=ChannelCore, at=Py_ssize_t)
cdef void unlock_all(list ordered) noexcept
@cython.locals(
    index=Py_ssize_t, ready=Py_ssize_t, chosen=Py_ssize_t, channel=ChannelCore, sending=SendCase, selected=Selected,
    outcome=int,
)
cdef object attempt(tuple cases, list channels)
@cython.locals(ordered=list, node=Node, channel=ChannelCore, selected=Selected, waiter=Waiter)
cdef object try_select(tuple cases, list channels, list nodes)
@cython.locals(channels=list, sending=SendCase, index=Py_ssize_t)
cdef list check_cases(tuple cases)
@cython.locals(sending=SendCase)
cdef void mark_cases(tuple cases, int state)
@cython.locals(index=Py_ssize_t, sending=SendCase, node=Node)
cdef list nodes_of(tuple cases, list channels, Waiter waiter)
@cython.locals(sending=SendCase, selected=Selected)
cdef object happened(tuple cases, Node node)
cdef object ready_now(tuple cases, list channels, object timeout, bint default)
@cython.locals(channel=ChannelCore)
cdef object chosen_case(object outcome)
@cython.locals(waiter=TaskWaiter, channels=list, deadline=double)
cpdef select_or_wait(tuple cases, object timeout, bint default)
@cython.locals(node=Node)
cpdef finish_select(tuple cases, TaskWaiter waiter)
cpdef leave_select(tuple cases)
