# The C side of native.h, and the constants that the kernel's files share.

cdef extern from "native.h" nogil:
    ctypedef struct Atomic "pk_atomic":
        pass
    int atomic_load "pk_load"(Atomic) noexcept
    bint atomic_cas "pk_swap_if"(Atomic, int, int) noexcept
    bint guarded_cas(Atomic, int, int) noexcept
    bint guarded_cas_soon(Atomic, int, int) noexcept

    ctypedef struct Lock "pk_lock":
        pass
    ctypedef struct Gap "pk_gap":
        pass
    void lock_take(Lock) noexcept
    void lock_drop(Lock) noexcept

    double monotonic() noexcept
    unsigned long thread_ident() noexcept
    Py_ssize_t random_below(Py_ssize_t) noexcept

    # True where kernel locks are real, so that several have to be taken in order.
    bint LOCKS "PK_LOCKS"

cdef extern from "native.h":
    void ambient_bind(object) noexcept
    object ambient_get()
    object ambient_set(object)
    int ambient_reset(object) except -1
    object shared "pk_shared"(object)
    void disown "pk_disown"(object) noexcept
    object immortal "pk_immortal"(object)
    ctypedef void *Items "pk_items"
    Items items_of(list) noexcept
    void *item_at(Items, Py_ssize_t) noexcept
    object ring_take(Items, Py_ssize_t)
    void ring_put(Items, Py_ssize_t, object) noexcept
    void ring_keep(Items, Py_ssize_t, object) noexcept
    void ring_move(Items, Py_ssize_t, Items, Py_ssize_t) noexcept
    void ring_share(Items, Py_ssize_t) noexcept
    void ring_claim(Items, Py_ssize_t) noexcept
    Py_ssize_t ring_draw(object, bint, Py_ssize_t, Items, Py_ssize_t, Py_ssize_t) noexcept
    object moved(object)
    object dict_get(dict, object, object)
    void *borrowed(object) noexcept
    object dict_get_in(void *, object, object)
    object new_instance(object)
    bint is_coroutine(object) noexcept
    object call_one "PyObject_CallOneArg"(object, object)
    Py_ssize_t shard_number(object, Py_ssize_t) except -1

    # The locks of several channels, each once, in the order of their addresses.
    ctypedef struct Locks "pk_locks":
        pass
    int locks_open(Locks, Py_ssize_t) except -1
    void locks_add(Locks, Lock) noexcept
    void locks_take(Locks) noexcept
    void locks_drop(Locks) noexcept

# A waiter's state: FIRED + n says that its node number n fired.
cdef enum:
    WAITING = 0
    EXPIRED = 1
    WITHDRAWN = 2
    FIRED = 3
