from penstock._kernel.waiters cimport Waiter

cdef class Runtime:
    cdef double monotonic(self) noexcept
    cdef Waiter thread_waiter(self, str operation, str instead)
    cdef Waiter task_waiter(self)
    cdef object interrupter(self)
    cdef void start(self, object function) except *
    cdef Py_ssize_t choose(self, Py_ssize_t n) noexcept

cdef class Seam:
    cdef public Runtime runtime

cdef Seam SEAM
