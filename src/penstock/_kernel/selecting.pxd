cimport cython
from penstock._kernel.channel cimport (
    CLOSED, EMPTY, FULL, RECEIVE, SEND, SENT, SHUT, ChannelCore, ReceiverCore, SendCase, SenderCore,
)
from penstock._kernel.loops cimport TaskWaiter
from penstock._kernel.merging cimport MergeCore
from penstock._kernel.native cimport LOCKS, Locks, immortal, locks_add, locks_drop, locks_open, locks_take
from penstock._kernel.operations cimport FOREVER, deadline_after, park
from penstock._kernel.scopes cimport check_ambient
from penstock._kernel.seam cimport SEAM, Runtime, Seam
from penstock._kernel.waiters cimport Node, Queue, Source, Waiter, wake_all, new_node

cdef enum:
    UNUSED = 0
    SELECTING = 1
    SPENT = 2
    FEW = 16

cdef extern from "calls.h":
    object select_function "pk_select_function"(object like, object (*body)(tuple, object, bint))

cdef object PARK
cdef object MERGED

@cython.final
@cython.freelist(16)
cdef class Selected:
    cdef object __weakref__
    cdef readonly Py_ssize_t index
    cdef readonly object channel
    cdef readonly object value
    cdef readonly bint ok

@cython.locals(selected=Selected, sending=SendCase)
cdef Selected record(Py_ssize_t index, object case, object value, bint ok)
@cython.locals(sending=SendCase, view=ReceiverCore)
cdef ChannelCore channel_of(object case)
@cython.locals(
    locks=Locks, waiter=Waiter, node=Node, channel=ChannelCore, sending=SendCase, index=Py_ssize_t, chosen=Py_ssize_t,
    ready=Py_ssize_t, outcome=int,
)
cdef object try_select(tuple cases, list nodes)
@cython.locals(sending=SendCase, merged=bint)
cdef bint check_cases(tuple cases) except -1
@cython.locals(sending=SendCase)
cdef void mark_cases(tuple cases, int state)
@cython.locals(place=Py_ssize_t, index=Py_ssize_t, few=bint, sending=SendCase, node=Node)
cdef list nodes_of(tuple cases, Waiter waiter)
@cython.locals(other=Node, like=Py_ssize_t, chosen=Py_ssize_t, place=Py_ssize_t)
cdef Py_ssize_t place_among_its_like(list nodes, Node node) except -1
@cython.locals(sending=SendCase)
cdef object happened(tuple cases, Node node)
cdef object select_from(tuple cases, object timeout, bint default)
cdef object select_among(tuple cases, object timeout, bint default)
cdef object ready_now(tuple cases, object timeout, bint default)
@cython.locals(channel=ChannelCore)
cdef object chosen_case(object outcome)
@cython.locals(waiter=TaskWaiter, deadline=double)
cpdef select_or_wait(tuple cases, object timeout, bint default)
@cython.locals(node=Node)
cpdef finish_select(tuple cases, TaskWaiter waiter)
cpdef leave_select(tuple cases)
@cython.locals(index=Py_ssize_t, merge=MergeCore)
cpdef put_together(tuple cases, list places, object got)
@cython.locals(deadline=double)
cdef object select_merged(tuple cases, object timeout, bint default)
