cimport cython
from penstock._kernel.loops cimport TaskWaiter
from penstock._kernel.belt cimport BATCH, NOTHING, Belt
from penstock._kernel.native cimport (
    LOCKS, Items, ambient_bind, ambient_get, immortal, items_of, lock_drop, lock_take, moved, ring_keep,
)
from penstock._kernel.operations cimport FOREVER, park
from penstock._kernel.scopes cimport AMBIENT, Scope, check_ambient
from penstock._kernel.seam cimport SEAM, Runtime, Seam
from penstock._kernel.timers cimport Timer
from penstock._kernel.waiters cimport Node, Queue, Waiter, chained, new_node, wake_all

cdef enum:
    ROOM = 0
    ITEM = 1
    RESULT = 2

cdef enum:
    HIRE = 1
    PACE = 2
    FULL = 4
    FAILED = 8

cdef double LOOK
cdef Py_ssize_t HASTY_FLOW
cdef object RANGE_ITERATOR
cdef object OVER
cdef tuple OPERATIONS

@cython.final
cdef class Look(Timer):
    cdef Conveyor _conveyor

cdef class Conveyor(Belt):
    cdef Queue _workers
    cdef Queue _feeders
    cdef Queue _readers
    cdef Py_ssize_t _called
    cdef Py_ssize_t _ahead
    cdef Py_ssize_t _portion
    cdef Py_ssize_t _mark
    cdef object _failure
    cdef bint _hiring
    cdef bint _ended
    cdef bint _complete
    cdef bint _gone
    cdef bint _stocked
    cdef bint _hasty
    cdef bint _watched
    cdef Py_ssize_t _taken_then
    cdef object _stock
    cdef object _goods

    cdef bint _may_go_on(self, int kind) noexcept
    cdef bint _has_room(self) noexcept
    cdef bint _begin_watch(self) noexcept
    cdef bint _ask_for_another(self, Hand hand) noexcept
    @cython.locals(waiter=Waiter, reader=Waiter, again=bint)
    cdef bint look(self) except -1
    cdef bint _arm(self) except -1
    @cython.locals(count=Py_ssize_t)
    cpdef Py_ssize_t parked(self)
    @cython.locals(wanting=Py_ssize_t)
    cdef Waiter _draw(self, Hand hand)
    cdef bint _lock_with_places(self, Py_ssize_t count) except -1
    cpdef draw_from(self, object goods)
    cdef Queue _queue_of(self, int kind)
    @cython.locals(queue=Queue)
    cdef Waiter _next_of(self, int kind)
    @cython.locals(node=Node)
    cdef Waiter _fire(self, int kind)
    @cython.locals(last=Waiter, added=Waiter)
    cdef Waiter _all_of(self, int kind, Waiter first)
    @cython.locals(scope=Scope, waiter=Waiter, watch=bint, asks=int)
    cpdef int put(self, object item) except -1
    @cython.locals(waiter=Waiter)
    cpdef set_pace(self, Py_ssize_t ahead, Py_ssize_t portion, Py_ssize_t mark, bint hasty)
    cpdef hire_no_more(self)
    @cython.locals(waiter=Waiter)
    cpdef end(self, bint complete)
    @cython.locals(ended=bint, taken=bint, watch=bint, waiter=Waiter, other=Waiter)
    cdef object exchange(self, Hand hand)
    @cython.locals(count=Py_ssize_t, items=list, other=Waiter)
    cdef list take_many(self, Hand hand, Py_ssize_t least, Py_ssize_t most)
    @cython.locals(count=Py_ssize_t)
    cpdef Py_ssize_t taken(self) noexcept
    @cython.locals(count=Py_ssize_t)
    cdef Py_ssize_t untaken(self) noexcept
    @cython.locals(before=Py_ssize_t, count=Py_ssize_t)
    cdef bint linger(self, Py_ssize_t most) except -1
    @cython.locals(own=list, waiter=Waiter, at=Py_ssize_t)
    cdef bint give_many(self, Hand hand, list results) except -1
    @cython.locals(over=bint)
    cpdef bint over(self)
    @cython.locals(waiter=Waiter)
    cpdef fail(self, object error)
    @cython.locals(waiter=Waiter)
    cpdef close(self)
    @cython.locals(scope=Scope)
    cpdef object next_result(self)
    @cython.locals(waiter=Waiter, other=Waiter)
    cdef object _next_fetched(self)
    cpdef failure(self)
    @cython.locals(all_read=bint)
    cpdef bint all_read(self)
    @cython.locals(ring=list, results=list, waiter=Waiter)
    cpdef shut(self)
    @cython.locals(waiter=Waiter)
    cdef bint _ready_or_queued(self, Node node)
    @cython.locals(waiter=Waiter)
    cdef bint take_back(self, Node node) except -1
    cdef bint _returned(self, Node node) except -1
    @cython.locals(waiter=Waiter, node=Node, operation=str)
    cpdef wait(self, int kind, bint patient=*)
    @cython.locals(waiter=TaskWaiter, node=Node, operation=str)
    cpdef begin_wait(self, int kind)
    @cython.locals(node=Node)
    cpdef finish_wait(self, TaskWaiter waiter)

@cython.final
cdef class Hand:
    cdef Conveyor _conveyor
    cdef list _held
    cdef Items _result
    cdef object _attend
    cdef Scope _scope
    cdef Py_ssize_t _number
    cdef int _asks
    cdef bint _holds
    cdef bint _followed
    cdef bint _worked
    cpdef take(self)
    cpdef give(self, object result)
    @cython.locals(items=list)
    cpdef list take_many(self, Py_ssize_t most)
    @cython.locals(items=list)
    cpdef list take_many_now(self, Py_ssize_t least, Py_ssize_t most)
    cpdef give_many(self, list results)

cdef class Delivery:
    cdef Conveyor _conveyor
