cimport cython
from penstock._kernel.channel cimport (
    CLOSED, EMPTY, FULL, RECEIVE, SEND, SENT, SHUT, ChannelCore, ReceiverCore, SendCase, SenderCore,
)
from penstock._kernel.loops cimport TaskWaiter
from penstock._kernel.native cimport LOCKS, Lock, address_of, lock_drop, lock_take
from penstock._kernel.operations cimport deadline_after, park
from penstock._kernel.scopes cimport check_ambient
from penstock._kernel.seam cimport SEAM, Runtime, Seam
from penstock._kernel.waiters cimport Node, Queue, Source, Waiter, wake_all, new_node

cdef enum:
    UNUSED = 0
    SELECTING = 1
    SPENT = 2

cdef object PARK

@cython.final
@cython.freelist(16)
cdef class Selected:
    cdef readonly Py_ssize_t index
    cdef readonly object channel
    cdef readonly object value
    cdef readonly bint ok
    cdef Waiter waiter

@cython.locals(selected=Selected, sending=SendCase)
cdef Selected new_selected(Py_ssize_t index, object case)
@cython.locals(sending=SendCase, view=ReceiverCore)
cdef ChannelCore channel_of(object case)
@cython.locals(channel=ChannelCore)
cdef list channels_of(tuple cases)
@cython.locals(channel=ChannelCore, found=ChannelCore)
cdef ChannelCore next_channel(tuple cases, size_t address)
@cython.locals(channel=ChannelCore)
cdef void lock_all(tuple cases, list ordered)
@cython.locals(channel=ChannelCore, following=ChannelCore)
cdef void unlock_all(tuple cases, list ordered)
@cython.locals(
    index=Py_ssize_t, ready=Py_ssize_t, chosen=Py_ssize_t, channel=ChannelCore, sending=SendCase, selected=Selected,
    outcome=int,
)
cdef object attempt(tuple cases)
@cython.locals(ordered=list, node=Node, channel=ChannelCore, selected=Selected)
cdef object try_select(tuple cases, list nodes)
@cython.locals(present=Py_ssize_t, sending=SendCase)
cdef Py_ssize_t check_cases(tuple cases) except -1
@cython.locals(sending=SendCase)
cdef void mark_cases(tuple cases, int state)
@cython.locals(index=Py_ssize_t, sending=SendCase, node=Node)
cdef list nodes_of(tuple cases, Waiter waiter)
@cython.locals(sending=SendCase, selected=Selected)
cdef object happened(tuple cases, Node node)
@cython.locals(present=Py_ssize_t)
cpdef select_ready(tuple cases, object timeout, bint default)
@cython.locals(channel=ChannelCore)
cdef object chosen_case(object outcome)
cdef void forget_nodes(Waiter waiter)
@cython.locals(waiter=TaskWaiter)
cpdef begin_select(tuple cases, object timeout)
@cython.locals(node=Node)
cpdef finish_select(tuple cases, TaskWaiter waiter)
cpdef leave_select(tuple cases)
cpdef bint needs_parking(object outcome)
