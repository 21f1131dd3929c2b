/* What the compiled kernel asks of the platform: a lock, an atomic integer, a place to park a thread, the clock, the
   number of a thread, and shortcuts into CPython. `interpreted.py` is the twin of this file, name by name.

   Invariants
   - With the GIL the lock is nothing: a locked region of the kernel runs no Python code and never releases the GIL, so
     it is atomic as it stands. Free-threaded, it is a PyMutex.
   - `Lock`, `Atomic` and `Parker` are valid when all their bytes are zero.
   - A Parker is used by one thread, once; `parker_wake` may be called by any thread holding an attached thread state. */
#pragma once
#include <Python.h>
#include <stdint.h>
#if defined(_WIN32)
#include <windows.h>
#endif

/* ---- atomics ---- */

typedef struct { volatile int value; } pk_atomic;

#if defined(_MSC_VER)
#include <intrin.h>
#define pk_load(a) _InterlockedOr((volatile long *)&(a).value, 0)
#define pk_exchange(a, to) _InterlockedExchange((volatile long *)&(a).value, (to))
#define pk_add(a, n) _InterlockedExchangeAdd((volatile long *)&(a).value, (n))
#define pk_swap_if(a, from, to) (_InterlockedCompareExchange((volatile long *)&(a).value, (to), (from)) == (from))
#define PK_THREAD_LOCAL __declspec(thread)
#define pk_peek(variable) (variable)
#define pk_poke(variable, to) ((void)((variable) = (to)))
#else
#define pk_load(a) __atomic_load_n(&(a).value, __ATOMIC_SEQ_CST)
#define pk_exchange(a, to) __atomic_exchange_n(&(a).value, (to), __ATOMIC_SEQ_CST)
#define pk_add(a, n) __atomic_fetch_add(&(a).value, (n), __ATOMIC_SEQ_CST)
static inline int pk_cas(volatile int *at, int from, int to) {
    return __atomic_compare_exchange_n(at, &from, to, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}
#define pk_swap_if(a, from, to) pk_cas(&(a).value, (from), (to))
#define PK_THREAD_LOCAL __thread
/* Counters that guide and decide nothing: no order, no lost update that matters. */
#define pk_peek(variable) __atomic_load_n(&(variable), __ATOMIC_RELAXED)
#define pk_poke(variable, to) __atomic_store_n(&(variable), (to), __ATOMIC_RELAXED)
#endif

/* ---- the kernel lock ---- */

/* Between two looks at what another thread is about to change. */
#if defined(_MSC_VER)
#define pk_pause() YieldProcessor()
#elif defined(__x86_64__) || defined(__i386__)
#define pk_pause() __builtin_ia32_pause()
#elif defined(__aarch64__) || defined(__arm__)
#define pk_pause() __asm__ __volatile__("yield" ::: "memory")
#else
#define pk_pause() __asm__ __volatile__("" ::: "memory")
#endif

#ifdef Py_GIL_DISABLED
#define PK_LOCKS 1
typedef PyMutex pk_lock;
/* Locked regions take less than the yield of the processor that PyMutex begins with, so try again a few times first. In
   growing intervals, since each try takes the lock, and what lies beside it, away from the processor that works on it. */
#define PK_LOCK_TRIES 3
#define PK_LOCK_PAUSES 16
static inline void pk_back_off(int tries) {
    for (int i = 0; i < PK_LOCK_PAUSES << tries; i++) pk_pause();
}
static inline void pk_lock_take(pk_lock *lock) {
    for (int tries = 0; tries < PK_LOCK_TRIES; tries++) {
        uint8_t unlocked = 0;
        if (_Py_atomic_compare_exchange_uint8(&lock->_bits, &unlocked, 1)) return;
        pk_back_off(tries);
    }
    PyMutex_Lock(lock);
}
/* What lies between an object's head and its lock, so that the lock and the 56 bytes behind it move from one processor to
   another at once, and without the head. Objects of 128 or 192 bytes stand at the boundaries that this takes. */
typedef char pk_gap[64 - (sizeof(PyObject) + 2 * sizeof(void *)) % 64];
#define lock_take(l) pk_lock_take(&(l))
#define lock_drop(l) PyMutex_Unlock(&(l))
#else
#define PK_LOCKS 0
typedef char pk_lock;
typedef char pk_gap;
#define lock_take(l) ((void)0)
#define lock_drop(l) ((void)0)
#endif

/* An atomic that is only touched by threads with an attached thread state: with the GIL, they take turns. */
#if PK_LOCKS
#define guarded_cas(a, from, to) pk_swap_if(a, from, to)
/* In a few tries, for as long as another thread takes to change it back. */
static int pk_swap_soon(pk_atomic *atomic, int from, int to) {
    for (int tries = 0; tries < PK_LOCK_TRIES; tries++) {
        pk_back_off(tries);
        if (pk_load(*atomic) == from && pk_swap_if(*atomic, from, to)) return 1;
    }
    return 0;
}
#define guarded_cas_soon(a, from, to) pk_swap_soon(&(a), (from), (to))
#else
#define guarded_cas(a, from, to) ((a).value == (from) ? ((a).value = (to), 1) : 0)
#define guarded_cas_soon(a, from, to) 0
#endif

/* ---- the clock: time.monotonic() without the float object ---- */

static inline double monotonic(void) {
#if PY_VERSION_HEX >= 0x030D0000
    PyTime_t now = 0;
    (void)PyTime_MonotonicRaw(&now);
    return (double)now * 1e-9;
#else
    return (double)_PyTime_GetMonotonicClock() * 1e-9;
#endif
}

/* ---- the calling thread, as threading.get_ident() has it ---- */

#if defined(__linux__) && !defined(__ANDROID__) && defined(__x86_64__) && defined(__LP64__) && defined(__GNUC__)
/* What pthread_self() returns there: the thread pointer, which points to itself. */
static inline unsigned long thread_ident(void) {
    unsigned long ident;
    __asm__("movq %%fs:0, %0" : "=r"(ident));
    return ident;
}
#else
#define thread_ident() PyThread_get_thread_ident()
#endif

/* ---- shortcuts into CPython ---- */

/* The ambient scope, or None: the value of the context variable that the including module has bound. `scopes.py` keeps
   the variable alive. */
static PyObject *pk_ambient_variable = NULL;
#define ambient_bind(variable) ((void)(pk_ambient_variable = (variable)))
static inline PyObject *ambient_get(void) {
    PyObject *value = NULL;
    if (PyContextVar_Get(pk_ambient_variable, Py_None, &value) < 0) return NULL;
    return value;
}
#define ambient_set(scope) PyContextVar_Set(pk_ambient_variable, (scope))
#define ambient_reset(token) PyContextVar_Reset(pk_ambient_variable, (token))

/* Free-threaded, an object counts the references of the thread that made it apart from all others. A reference that one
   thread has counted for itself and another drops makes that one queue the object for its maker, to put the count
   right: some microseconds. So references that are to change threads are counted with those of all the others, and
   objects that exist to change threads have no maker from the start (as PEP 703 describes an object whose counts have
   been merged). */
#if defined(Py_GIL_DISABLED) && PY_VERSION_HEX < 0x03100000
static inline PyObject *pk_shared(PyObject *object) {
    if (_Py_atomic_load_uint32_relaxed(&object->ob_ref_local) != _Py_IMMORTAL_REFCNT_LOCAL)
        _Py_atomic_add_ssize(&object->ob_ref_shared, (Py_ssize_t)1 << _Py_REF_SHARED_SHIFT);
    return object;
}
/* Nobody else knows `object` yet. */
static inline void pk_disown(PyObject *object) {
    Py_ssize_t count = (object->ob_ref_shared >> _Py_REF_SHARED_SHIFT) + object->ob_ref_local;
    _Py_atomic_store_ssize_relaxed(&object->ob_ref_shared, (count << _Py_REF_SHARED_SHIFT) | _Py_REF_MERGED);
    _Py_atomic_store_uint32_relaxed(&object->ob_ref_local, 0);
    _Py_atomic_store_uintptr_relaxed(&object->ob_tid, 0);
}
/* A reference that the calling thread holds is from now on counted with those of all the others. */
static inline void pk_share(PyObject *object) {
    if (!_Py_IsOwnedByCurrentThread(object)) return; /* It is, or nothing is counted. */
    if (object->ob_ref_local == 1 && _Py_atomic_load_ssize_relaxed(&object->ob_ref_shared) == 0) pk_disown(object);
    else Py_DECREF(pk_shared(object));
}
/* The calling thread has the only reference to `object`, which another may have counted. */
static inline void pk_claim(PyObject *object) {
    if (!_Py_IsOwnedByCurrentThread(object) && !_Py_IsImmortal(object)) pk_disown(object);
}
/* `object` lives as long as the process, and all threads refer to it all the time: it is not counted. */
static inline PyObject *pk_immortal(PyObject *object) {
    _Py_atomic_store_ssize_relaxed(&object->ob_ref_shared, 0);
    _Py_atomic_store_uint32_relaxed(&object->ob_ref_local, _Py_IMMORTAL_REFCNT_LOCAL);
    _Py_atomic_store_uintptr_relaxed(&object->ob_tid, 0);
    return object;
}
#else
#define pk_immortal(object) Py_NewRef(object)
#define pk_shared(object) Py_NewRef(object)
#define pk_disown(object) ((void)(object))
#define pk_share(object) ((void)(object))
#define pk_claim(object) ((void)(object))
#endif

/* The items of a list, which moves them when it grows. To count references to the list itself, at each of its uses, would
   have the threads that share it take turns at its count. */
typedef PyObject **pk_items;
#define items_of(list) (((PyListObject *)(list))->ob_item)

/* Values are moved into ring slots and out of them. An empty slot is None, which has no reference count from 3.12 on. */
static inline PyObject *ring_take(pk_items items, Py_ssize_t at) {
    PyObject *value = items[at];
#if PY_VERSION_HEX < 0x030C0000
    Py_INCREF(Py_None);
#endif
    items[at] = Py_None;
    return value;
}
static inline void ring_set(pk_items items, Py_ssize_t at, PyObject *value) {
#if PY_VERSION_HEX < 0x030C0000
    Py_DECREF(Py_None);
#endif
    items[at] = value;
}
#define ring_put(items, at, value) ring_set((items), (at), pk_shared(value))
/* In a slot of this thread's own. */
#define ring_keep(items, at, value) ring_set((items), (at), Py_NewRef(value))

/* From slot to slot: an empty one is left. */
static inline void ring_move(pk_items from, Py_ssize_t at, pk_items to, Py_ssize_t there) {
    PyObject *empty = to[there];
    to[there] = from[at];
    from[at] = empty;
}
/* Before what a slot of this thread's own holds is moved where other threads find it. */
#define ring_share(items, at) pk_share((items)[at])
/* After what was in no slot but this one, and known to nobody, has come to this thread. */
#define ring_claim(items, at) pk_claim((items)[at])
/* Move so many items of an iterator into a ring's slots from `at` on; `sole`: nobody else knows them. How many there
   were; if it failed, -1 less that: under a lock nothing is raised, and of a list, a tuple or a range nothing can fail
   for want of more than memory. */
static inline Py_ssize_t ring_draw(PyObject *iterator, int sole, Py_ssize_t most, pk_items items, Py_ssize_t at,
                                   Py_ssize_t mask) {
    Py_ssize_t count = 0;
    for (; count < most; count++) {
        PyObject *value = Py_TYPE(iterator)->tp_iternext(iterator);
        if (value == NULL) break;
        if (!sole) pk_share(value);
        ring_set(items, (at + count) & mask, value);
    }
    if (count < most && PyErr_Occurred()) {
        int over = PyErr_ExceptionMatches(PyExc_StopIteration);
        PyErr_Clear();
        if (!over) return -1 - count;
    }
    return count;
}

/* The reference that a local variable holds, which is not used any more: nothing is counted. */
static inline PyObject *pk_moved(PyObject **variable) {
    PyObject *value = *variable;
    *variable = NULL;
    return value;
}
#define moved(variable) pk_moved(&(variable))

/* The value of a key, or `otherwise`. Cython's own `dict.get` counts the reference after the lookup, when another thread
   may have replaced the value and freed it. */
static inline PyObject *dict_get(PyObject *dict, PyObject *key, PyObject *otherwise) {
    PyObject *value;
#if PY_VERSION_HEX >= 0x030D0000
    if (PyDict_GetItemRef(dict, key, &value) != 0) return value; /* NULL after an error */
#else
    value = PyDict_GetItemWithError(dict, key);
    if (value != NULL) return Py_NewRef(value);
    if (PyErr_Occurred()) return NULL;
#endif
    return Py_NewRef(otherwise);
}

/* What something else keeps alive, and one of the objects that a list does, without a reference that is counted: those
   who only look share nothing. */
#define borrowed(object) ((void *)(object))
#define item_at(items, at) borrowed((items)[at])
/* As `dict_get`, of such a dictionary. */
#define dict_get_in(dict, key, otherwise) dict_get((PyObject *)(dict), (key), (otherwise))

#define is_coroutine(object) PyCoro_CheckExact(object)

/* A random integer in [0, n), by xorshift64* (Vigna, 2016) and a multiply-shift; one state per thread. */
static inline uint32_t pk_random(void) {
    static PK_THREAD_LOCAL uint64_t state = 0;
    if (state == 0) {
        uint64_t seed = (uint64_t)(monotonic() * 1e9) ^ ((uint64_t)(uintptr_t)&state << 16);
        state = seed ? seed : 0x9E3779B97F4A7C15u;
    }
    state ^= state >> 12; state ^= state << 25; state ^= state >> 27;
    return (uint32_t)((state * 0x2545F4914F6CDD1Du) >> 32);
}
static inline Py_ssize_t random_below(Py_ssize_t n) {
    return (Py_ssize_t)(((uint64_t)pk_random() * (uint64_t)n) >> 32);
}

/* The hash that a str remembers; -1 if it has not been asked for yet. */
#if PK_LOCKS
#define pk_hash_of_text(text) _Py_atomic_load_ssize_relaxed(&((PyASCIIObject *)(text))->hash)
#else
#define pk_hash_of_text(text) (((PyASCIIObject *)(text))->hash)
#endif

/* Which of the shards is the key's: of its hash, spread by Fibonacci hashing (Knuth), the upper bits. */
static inline Py_ssize_t shard_number(PyObject *key, Py_ssize_t shards) {
    Py_hash_t hash = -1;
    if (PyUnicode_CheckExact(key)) hash = pk_hash_of_text(key);
    if (hash == -1) hash = PyObject_Hash(key);
    if (hash == -1) return -1;
    return (Py_ssize_t)(((((uint64_t)hash * 0x9E3779B97F4A7C15u) >> 32) * (uint64_t)shards) >> 32);
}

/* A new, empty instance of a class, without calling its __init__. */
static inline PyObject *new_instance(PyObject *cls) {
    PyObject *nothing = PyTuple_New(0);
    PyObject *instance = nothing ? ((PyTypeObject *)cls)->tp_new((PyTypeObject *)cls, nothing, NULL) : NULL;
    Py_XDECREF(nothing);
    return instance;
}

/* ---- the locks of several channels, each once, in the order of their addresses ---- */

#if PK_LOCKS
#define PK_FEW_LOCKS 16
typedef struct {
    Py_ssize_t size;
    pk_lock **all, *few[PK_FEW_LOCKS];
} pk_locks;
static inline int pk_locks_open(pk_locks *locks, Py_ssize_t most) {
    locks->size = 0;
    locks->all = most <= PK_FEW_LOCKS ? locks->few : PyMem_New(pk_lock *, most);
    if (locks->all != NULL) return 0;
    PyErr_NoMemory();
    return -1;
}
static inline void pk_locks_add(pk_locks *locks, pk_lock *lock) {
    Py_ssize_t low = 0, high = locks->size;
    while (low < high) {
        Py_ssize_t middle = (low + high) >> 1;
        if ((uintptr_t)locks->all[middle] < (uintptr_t)lock) low = middle + 1;
        else high = middle;
    }
    if (low < locks->size && locks->all[low] == lock) return;
    for (high = locks->size++; high > low; high--) locks->all[high] = locks->all[high - 1];
    locks->all[low] = lock;
}
static inline void pk_locks_take(pk_locks *locks) {
    for (Py_ssize_t at = 0; at < locks->size; at++) lock_take(*locks->all[at]);
}
static inline void pk_locks_drop(pk_locks *locks) {
    for (Py_ssize_t at = 0; at < locks->size; at++) lock_drop(*locks->all[at]);
    if (locks->all != locks->few) PyMem_Free(locks->all);
}
#define locks_open(locks, most) pk_locks_open(&(locks), (most))
#define locks_add(locks, lock) pk_locks_add(&(locks), &(lock))
#define locks_take(locks) pk_locks_take(&(locks))
#define locks_drop(locks) pk_locks_drop(&(locks))
#else
typedef char pk_locks;
#define locks_open(locks, most) ((void)(locks), 0)
#define locks_add(locks, lock) ((void)(lock))
#define locks_take(locks) ((void)(locks))
#define locks_drop(locks) ((void)(locks))
#endif
