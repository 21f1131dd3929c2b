from penstock._kernel.waiters cimport Waiter

cdef class Interruption:
    cdef void interrupt(self) except *
    cdef void shown(self) except *
    cdef bint leave(self, object error) except -1
    cdef bint interrupts(self, size_t number) except -1
    cpdef bint unnoticed(self) except -1

cdef class Runtime:
    cdef double monotonic(self) noexcept
    cdef Waiter thread_waiter(self, str operation, str instead)
    cdef Waiter task_waiter(self)
    cdef Interruption interruption(self, object scope)
    cdef void start(self, object function) except *
    cdef void arm(self, object timer, double deadline) except *
    cdef bint disarm(self, object timer) except -1
    cdef void give_way(self) except *
    cdef Py_ssize_t choose(self, Py_ssize_t n) noexcept

cdef class Seam:
    cdef public Runtime runtime
    cdef public object select_watcher

cdef Seam SEAM
