cimport cython
from penstock._kernel.loops cimport TaskWaiter
from penstock._kernel.native cimport (
    Items, Lock, ambient_bind, ambient_get, items_of, lock_drop, lock_take, moved, ring_put, ring_take,
)
from penstock._kernel.operations cimport FOREVER, park
from penstock._kernel.scopes cimport AMBIENT, Scope, check_ambient
from penstock._kernel.seam cimport SEAM, Runtime, Seam
from penstock._kernel.waiters cimport Node, Queue, Source, Waiter, chained, new_node, wake_all

cdef enum:
    ROOM = 0
    ITEM = 1
    RESULT = 2

cdef enum:
    HIRE = 1
    PACE = 2
    FULL = 4

cdef object NOTHING
cdef object OVER
cdef tuple OPERATIONS

cdef class Conveyor(Source):
    # What moves with the lock from one processor to another comes first; see pk_gap.
    cdef Py_ssize_t _fed
    cdef Py_ssize_t _taken
    cdef Py_ssize_t _ready
    cdef Py_ssize_t _read
    cdef Py_ssize_t _size
    cdef Items _items
    cdef Queue _workers
    cdef Queue _feeders
    cdef Queue _readers
    cdef bytearray _given
    cdef Py_ssize_t _called
    cdef Py_ssize_t _ahead
    cdef Py_ssize_t _portion
    cdef Py_ssize_t _mark
    cdef object _failure
    cdef list _ring
    cdef bint _ordered
    cdef bint _hiring
    cdef bint _ended
    cdef bint _complete
    cdef bint _gone
    cdef bint _shut

    cdef bint _may_go_on(self, int kind) noexcept
    cdef Queue _queue_of(self, int kind)
    @cython.locals(queue=Queue)
    cdef Waiter _next_of(self, int kind)
    @cython.locals(node=Node)
    cdef Waiter _fire(self, int kind)
    @cython.locals(last=Waiter, added=Waiter)
    cdef Waiter _all_of(self, int kind, Waiter first)
    @cython.locals(mask=Py_ssize_t)
    cdef void _place(self, Py_ssize_t number, object result) noexcept
    @cython.locals(scope=Scope, waiter=Waiter, asks=int, at=Py_ssize_t)
    cpdef int put(self, object item) except -1
    @cython.locals(ring=list, given=bytearray, items=Items, size=Py_ssize_t, mask=Py_ssize_t, number=Py_ssize_t, at=Py_ssize_t)
    cdef bint _grow(self) except -1
    cpdef set_pace(self, Py_ssize_t ahead, Py_ssize_t portion, Py_ssize_t mark)
    cpdef hire_no_more(self)
    @cython.locals(waiter=Waiter)
    cpdef end(self, bint complete)
    @cython.locals(scope=Scope, ended=bint, waiter=Waiter, other=Waiter)
    cdef object exchange(self, Hand hand)
    @cython.locals(count=Py_ssize_t, items=list, taken=Items, other=Waiter)
    cdef list take_many(self, Hand hand, Py_ssize_t most)
    @cython.locals(count=Py_ssize_t)
    cpdef Py_ssize_t taken(self) noexcept
    @cython.locals(count=Py_ssize_t)
    cdef Py_ssize_t untaken(self) noexcept
    @cython.locals(before=Py_ssize_t, count=Py_ssize_t)
    cdef bint linger(self, Py_ssize_t most) except -1
    @cython.locals(waiter=Waiter)
    cdef bint give_many(self, Hand hand, list results) except -1
    @cython.locals(over=bint)
    cpdef bint over(self)
    @cython.locals(waiter=Waiter)
    cpdef fail(self, object error)
    @cython.locals(waiter=Waiter)
    cpdef close(self)
    @cython.locals(scope=Scope, waiter=Waiter, other=Waiter)
    cpdef object next_result(self)
    cpdef failure(self)
    @cython.locals(all_read=bint)
    cpdef bint all_read(self)
    @cython.locals(ring=list, waiter=Waiter)
    cpdef shut(self)
    cdef bint _ready_or_queued(self, Node node)
    @cython.locals(waiter=Waiter)
    cdef bint take_back(self, Node node) except -1
    cdef bint _returned(self, Node node) except -1
    @cython.locals(waiter=Waiter, node=Node, operation=str)
    cpdef wait(self, int kind)
    @cython.locals(waiter=TaskWaiter, node=Node, operation=str)
    cpdef begin_wait(self, int kind)
    @cython.locals(node=Node)
    cpdef finish_wait(self, TaskWaiter waiter)

@cython.final
cdef class Hand:
    cdef Conveyor _conveyor
    cdef object _result
    cdef Py_ssize_t _number
    cdef bint _holds
    cpdef take(self)
    cpdef give(self, object result)
    @cython.locals(items=list)
    cpdef list take_many(self, Py_ssize_t most)
    cpdef list take_many_now(self, Py_ssize_t least, Py_ssize_t most)
    cpdef give_many(self, list results)

cdef class Delivery:
    cdef Conveyor _conveyor
