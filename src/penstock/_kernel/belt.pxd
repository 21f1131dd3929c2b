cimport cython
from penstock._kernel.native cimport (
    Gap, Items, Lock, immortal, items_of, lock_drop, lock_take, moved, ring_claim, ring_draw, ring_move, ring_put,
    ring_share, ring_take,
)
from penstock._kernel.waiters cimport Source

cdef enum:
    BATCH = 64

cdef object NOTHING

@cython.final
cdef class Basket:
    cdef Gap _gap
    cdef Lock _lock
    cdef Py_ssize_t _at
    cdef Py_ssize_t _count
    cdef Items _items
    cdef list _results
    cdef object take(self)
    cdef inline object _next(self)
    cdef list empty(self, list results)

cdef class Belt(Source):
    # What moves with the lock from one processor to another comes first; see pk_gap.
    cdef Py_ssize_t _fed
    cdef Py_ssize_t _taken
    cdef Py_ssize_t _ready
    cdef Py_ssize_t _fetched
    cdef Py_ssize_t _read
    cdef Py_ssize_t _size
    cdef Items _items
    cdef bytearray _given
    cdef Basket _basket
    cdef list _ring
    cdef bint _ordered
    cdef bint _cleared
    cdef bint _sole

    cdef Py_ssize_t _places(self) noexcept
    @cython.locals(at=Py_ssize_t)
    cdef void _lay(self, object item) noexcept
    @cython.locals(count=Py_ssize_t, drawn=Py_ssize_t, number=Py_ssize_t)
    cdef Py_ssize_t _lay_from(self, object stock, Py_ssize_t most) noexcept
    @cython.locals(at=Py_ssize_t)
    cdef object _lift(self)
    @cython.locals(count=Py_ssize_t, at=Py_ssize_t)
    cdef Py_ssize_t _lift_into(self, Items items, Py_ssize_t most) noexcept
    @cython.locals(mask=Py_ssize_t)
    cdef void _place(self, Py_ssize_t number, Items results, Py_ssize_t at) noexcept
    @cython.locals(basket=Basket)
    cdef object _fetch(self, Py_ssize_t most)
    @cython.locals(all_read=bint)
    cdef bint _all_read(self) noexcept
    cdef list _clear(self, list ring)
    @cython.locals(ring=list, given=bytearray, items=Items, size=Py_ssize_t, mask=Py_ssize_t, number=Py_ssize_t, at=Py_ssize_t)
    cdef bint grow(self) except -1
