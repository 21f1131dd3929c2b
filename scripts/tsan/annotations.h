/* Included before everything else when the kernel is built for ThreadSanitizer.

   The interpreter itself is not instrumented, so what it orders goes unseen: a lock taken on its slow path, the last of
   several references dropped, memory given out again. Each of them is announced here. */
#pragma once
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <sanitizer/tsan_interface.h>

static inline void tsan_lock(PyMutex *mutex) {
    PyMutex_Lock(mutex);
    __tsan_acquire(mutex);
}
static inline void tsan_unlock(PyMutex *mutex) {
    __tsan_release(mutex);
    PyMutex_Unlock(mutex);
}
#undef PyMutex_Lock
#undef PyMutex_Unlock
#define PyMutex_Lock tsan_lock
#define PyMutex_Unlock tsan_unlock

static inline void tsan_release_thread_lock(PyThread_type_lock lock) {
    __tsan_release(lock);
    PyThread_release_lock(lock);
}
static inline int tsan_acquire_thread_lock(PyThread_type_lock lock, int wait) {
    int taken = PyThread_acquire_lock(lock, wait);
    if (taken) __tsan_acquire(lock);
    return taken;
}
static inline PyLockStatus tsan_acquire_thread_lock_timed(PyThread_type_lock lock, PY_TIMEOUT_T micros, int interruptible) {
    PyLockStatus status = PyThread_acquire_lock_timed(lock, micros, interruptible);
    if (status == PY_LOCK_ACQUIRED) __tsan_acquire(lock);
    return status;
}
#define PyThread_release_lock tsan_release_thread_lock
#define PyThread_acquire_lock tsan_acquire_thread_lock
#define PyThread_acquire_lock_timed tsan_acquire_thread_lock_timed

/* What a thread did with an object before dropping its reference comes before the end of the object. Untracking is the
   first thing that the end of an object does; allocator.c has it for the objects that are not tracked. */
static inline void tsan_decref(PyObject *object) {
    if (!_Py_IsImmortal(object)) __tsan_release(object);
    Py_DECREF(object);
}
static inline void tsan_xdecref(PyObject *object) {
    if (object != NULL) tsan_decref(object);
}
#undef Py_DECREF
#undef Py_XDECREF
#define Py_DECREF(object) tsan_decref(_PyObject_CAST(object))
#define Py_XDECREF(object) tsan_xdecref(_PyObject_CAST(object))

static inline void tsan_untrack(void *object) {
    __tsan_acquire(object);
    PyObject_GC_UnTrack(object);
}
#define PyObject_GC_UnTrack tsan_untrack
