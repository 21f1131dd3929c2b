/* Parking a thread: spin a little, then sleep. Included by threads.py alone, since its counters are one per process.

   A hand-over between two running threads costs about a microsecond, a sleep and a wake-up across processors about
   fifty, so a thread that parks first spins on its flag for up to 20 microseconds.
   - With the GIL the spinner has released it. Seeing its flag set, it goes on spinning until the thread that set it
     (the one that holds the GIL) releases the GIL to park in its turn: `pk_parkings` counts those releases. Asking for
     the GIL earlier would send this thread to sleep inside the interpreter. It does so for up to 100 microseconds.
   - No more than (processors - 1) threads spin at once; with one processor nobody does.
   - A thread that has just woken a sleeper waits longer, until the sleeper has had the time to answer; otherwise two
     threads that both sleep would never get out of it.
   - Both remember whether they have paid lately (`pk_habit`). When one has not, only one parking in sixteen tries it,
     and in ever fewer while the tries fail: a processor that is busy otherwise must not be taken from who could
     answer. */
#pragma once
#include "native.h"

#if !defined(_WIN32)
#include <sched.h>
#include <time.h>
#include <unistd.h>
#endif

#define PK_IDLE 0
#define PK_ASLEEP 1
#define PK_WOKEN 2

#define PK_SPIN_SECONDS 20e-6
#define PK_ANSWER_SECONDS 100e-6
#define PK_RELEASE_SECONDS 100e-6
#define PK_SLOT_TRIES 256
#define PK_ROUNDS_BEFORE_YIELD 24
#define PK_SCORE_MAX 32
#define PK_PROBE_LEAST 16
#define PK_PROBE_MOST 1024
/* A signal that arrives between the last look and the sleep does not interrupt the sleep: the main thread looks again
   this often. */
#define PK_SIGNAL_SLICE 0.1

typedef struct {
    pk_atomic word;
    int parkings_at_wake;
    PyThread_type_lock semaphore;
} pk_parker;

static pk_atomic pk_parkings, pk_spinners, pk_sleepers;
static int64_t pk_sleeper_answers_by = 0; /* microseconds on the monotonic clock */
static int pk_processors = 0;

/* Something that pays at some times and not at others. */
typedef struct { int score, skipped, probe_every; } pk_habit;
#define PK_HABIT {PK_SCORE_MAX / 2, 0, PK_PROBE_LEAST}

/* Is it to be done this time? */
static int pk_worth_it(pk_habit *habit) {
    if (pk_peek(habit->score) > 0) return 1;
    int skipped = pk_peek(habit->skipped) + 1, probe = skipped >= pk_peek(habit->probe_every);
    pk_poke(habit->skipped, probe ? 0 : skipped);
    return probe;
}

/* It has been done. 1 if it has not paid for long. */
static int pk_learn(pk_habit *habit, int paid) {
    int score = pk_peek(habit->score), every = pk_peek(habit->probe_every);
    if (paid) {
        if (score < PK_SCORE_MAX) pk_poke(habit->score, score + 2);
        pk_poke(habit->probe_every, PK_PROBE_LEAST);
    } else if (score > 0) {
        pk_poke(habit->score, score - 1);
    } else {
        if (every < PK_PROBE_MOST) pk_poke(habit->probe_every, every * 2);
        return 1;
    }
    return 0;
}

static pk_habit pk_spinning = PK_HABIT;
#if !PK_LOCKS
static pk_habit pk_awaiting_release = PK_HABIT;
#endif

static int pk_count_processors(void) {
#if defined(__linux__)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
#endif
#if defined(_WIN32)
    SYSTEM_INFO info;
    GetSystemInfo(&info);
    return (int)info.dwNumberOfProcessors;
#else
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (int)n : 1;
#endif
}

static inline void pk_yield(void) {
#if defined(_WIN32)
    SwitchToThread();
#else
    sched_yield();
#endif
}

/* Semaphores (CPython's own thread locks, held, so that releasing one wakes) are reused. */
static PyThread_type_lock pk_pool[64];
static int pk_pooled = 0;
#if PK_LOCKS
static pk_lock pk_pool_lock;
#endif

static PyThread_type_lock pk_semaphore_new(void) {
    PyThread_type_lock semaphore = NULL;
    lock_take(pk_pool_lock);
    if (pk_pooled > 0) semaphore = pk_pool[--pk_pooled];
    lock_drop(pk_pool_lock);
    if (semaphore == NULL) {
        semaphore = PyThread_allocate_lock();
        if (semaphore != NULL) PyThread_acquire_lock(semaphore, 0);
    }
    return semaphore;
}

static void pk_semaphore_free(PyThread_type_lock semaphore) {
    lock_take(pk_pool_lock);
    if (pk_pooled < 64) {
        pk_pool[pk_pooled++] = semaphore;
        semaphore = NULL;
    }
    lock_drop(pk_pool_lock);
    if (semaphore != NULL) {
        PyThread_release_lock(semaphore);
        PyThread_free_lock(semaphore);
    }
}

#if !PK_LOCKS
/* Woken: spin until the thread that did it parks. */
static void pk_await_release(pk_parker *parker) {
    if (!pk_worth_it(&pk_awaiting_release)) return;
    double end = monotonic() + PK_RELEASE_SECONDS;
    int released = 0;
    do {
        for (int i = 0; i < 16; i++) {
            if (pk_load(pk_parkings) != parker->parkings_at_wake) { released = 1; break; }
            pk_pause();
        }
    } while (!released && monotonic() < end);
    pk_learn(&pk_awaiting_release, released);
}
#endif

/* Spin without the GIL; 1 when woken. */
static int pk_spin(pk_parker *parker) {
    if (pk_peek(pk_processors) < 2) {
        if (pk_peek(pk_processors) == 0) pk_poke(pk_processors, pk_count_processors());
        if (pk_peek(pk_processors) < 2) return 0;
    }
    if (!pk_worth_it(&pk_spinning)) return 0;
    for (int tries = 0;; tries++) { /* A spinner that has just been woken may not have left its place yet. */
        int spinners = pk_load(pk_spinners);
        if (spinners < pk_peek(pk_processors) - 1 && pk_swap_if(pk_spinners, spinners, spinners + 1)) break;
        if (tries == PK_SLOT_TRIES) return 0;
        pk_pause();
    }
    double end = monotonic() + PK_SPIN_SECONDS, answered_by = (double)pk_peek(pk_sleeper_answers_by) * 1e-6;
    if (end < answered_by) end = answered_by;
    int woken = 0, rounds = 0;
    do {
        for (int i = 0; i < 16; i++) {
            if (pk_load(parker->word) == PK_WOKEN) { woken = 1; break; }
            pk_pause();
        }
#if PK_LOCKS
        if (!woken && ++rounds > PK_ROUNDS_BEFORE_YIELD) pk_yield();
#else
        (void)rounds;
#endif
    } while (!woken && monotonic() < end);
    pk_add(pk_spinners, -1);
#if !PK_LOCKS
    if (woken) pk_await_release(parker);
#endif
    if (pk_learn(&pk_spinning, woken)) pk_poke(pk_processors, pk_count_processors());
    return woken;
}

/* Park the calling thread until it is woken (1), the clock passes `deadline` (0), or a signal handler raised (-1).
   `spin`: it may be woken soon. */
static int parker_park_at(pk_parker *parker, double deadline, int main_thread, int spin) {
    int woken = 0;
    if (pk_load(parker->word) == PK_WOKEN) goto out;
    if (parker->semaphore == NULL && (parker->semaphore = pk_semaphore_new()) == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    while (!woken) {
        if (main_thread && PyErr_CheckSignals() < 0) return -1;
        double seconds = deadline - (deadline < Py_HUGE_VAL ? monotonic() : 0.0);
        if (seconds <= 0.0) return pk_load(parker->word) == PK_WOKEN;
        if (main_thread && seconds > PK_SIGNAL_SLICE) seconds = PK_SIGNAL_SLICE;
        PY_TIMEOUT_T micros = -1;
        if (seconds < 1e9) micros = (PY_TIMEOUT_T)(seconds * 1e6) + 1;
        Py_BEGIN_ALLOW_THREADS /* Once for both: to take the GIL again in between would be to wait for it. */
        pk_add(pk_parkings, 1);
        if (spin) woken = pk_spin(parker);
        spin = 0;
        if (!woken && pk_swap_if(parker->word, PK_IDLE, PK_ASLEEP)) {
            pk_add(pk_sleepers, 1);
            woken = PyThread_acquire_lock_timed(parker->semaphore, micros, 1) == PY_LOCK_ACQUIRED;
            pk_add(pk_sleepers, -1);
            if (!woken && !pk_swap_if(parker->word, PK_ASLEEP, PK_IDLE)) {
                /* Woken in this instant: the semaphore has been released, or is about to be. */
                PyThread_acquire_lock(parker->semaphore, WAIT_LOCK);
                woken = 1;
            }
        } else {
            woken = 1;
        }
        Py_END_ALLOW_THREADS
    }
out:
    return main_thread && PyErr_CheckSignals() < 0 ? -1 : 1;
}
#define parker_park(parker, deadline, main_thread, spin) parker_park_at(&(parker), (deadline), (main_thread), (spin))

static void parker_wake_at(pk_parker *parker) {
    parker->parkings_at_wake = pk_load(pk_parkings);
    if (pk_exchange(parker->word, PK_WOKEN) == PK_ASLEEP) {
        pk_poke(pk_sleeper_answers_by, (int64_t)((monotonic() + PK_ANSWER_SECONDS) * 1e6));
#if !PK_LOCKS
        if (pk_peek(pk_processors) == 1) { /* Who is woken may run at once, and would only find the GIL taken. */
            Py_BEGIN_ALLOW_THREADS
            PyThread_release_lock(parker->semaphore);
            Py_END_ALLOW_THREADS
            return;
        }
#endif
        PyThread_release_lock(parker->semaphore);
    }
}
#define parker_wake(parker) parker_wake_at(&(parker))

static void parker_free_at(pk_parker *parker) {
    if (parker->semaphore != NULL) pk_semaphore_free(parker->semaphore);
    parker->semaphore = NULL;
}
#define parker_free(parker) parker_free_at(&(parker))

/* Raise `error` in the main thread at the next instruction that can: for an operation that has happened although a
   signal handler raised while its task was parked. */
static int pk_raise_pending(void *error) {
    PyErr_SetObject((PyObject *)Py_TYPE((PyObject *)error), (PyObject *)error);
    Py_DECREF((PyObject *)error);
    return -1;
}
static void raise_soon(PyObject *error) {
    Py_INCREF(error);
    if (Py_AddPendingCall(pk_raise_pending, error) < 0) Py_DECREF(error);
}

/* How many threads are asleep in `parker_park`. */
static inline int parker_sleepers(void) { return pk_load(pk_sleepers); }

static void parking_after_fork(void) {
    pk_spinners.value = 0;
    pk_sleepers.value = 0;
    pk_poke(pk_processors, 0);
#if PK_LOCKS
    pk_pool_lock = (PyMutex){0};
    pk_pooled = 0; /* Another thread may have been amid them. */
#endif
}
