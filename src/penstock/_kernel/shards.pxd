cimport cython
from penstock._kernel.locks cimport SemaphoreCore
from penstock._kernel.native cimport (
    Atomic, Gap, Items, atomic_load, borrowed, call_one, dict_get, dict_get_in, guarded_cas, guarded_cas_soon, immortal,
    is_coroutine, item_at, items_of, moved, shard_number, thread_ident,
)

cdef enum:
    FREE = 0
    HELD = 1
    CONTENDED = 2

cdef object MISSING
cdef dict WAITING

@cython.final
cdef class Shard:
    cdef dict items
    cdef Gap _gap
    # What moves from one processor to another; see pk_gap.
    cdef Atomic _state
    cdef unsigned long holder
    cdef bint calling
    cdef Py_ssize_t contended
    cdef SemaphoreCore _wakes
    cdef void *_dictionary
    cdef Gap _end
    cdef inline bint take(self, bint calling) except -1
    cdef bint take_from_other(self) except -1
    cdef inline void drop(self) noexcept
    cdef void drop_contended(self) noexcept
    @cython.locals(taken=bint)
    cdef inline bint put(self, object key, object value) except -1
    @cython.locals(taken=bint)
    cdef object update(self, object key, object function, object default)
    @cython.locals(me="unsigned long", suspected=bint, circle=bint)
    cdef bint _wait(self) except -1
    @cython.locals(holder="unsigned long", shard=Shard)
    cdef bint _in_circle(self, unsigned long me) except -1

cdef class ShardedMapCore:
    cdef list _shards
    cdef list _dictionaries
    cdef Items _parts
    cdef Items _places
    cdef Py_ssize_t _size
    cdef object __weakref__
    cdef inline void *_part(self, object key) except NULL
    cdef Shard _shard(self, object key)
    @cython.locals(shard=Shard)
    cpdef length(self)
    @cython.locals(shard=Shard, taken=bint)
    cpdef clear(self)
    @cython.locals(shard=Shard)
    cpdef parts(self)
    @cython.locals(shard=Shard)
    cpdef frozen_parts(self)
    @cython.locals(shard=Shard)
    cpdef counts(self)
