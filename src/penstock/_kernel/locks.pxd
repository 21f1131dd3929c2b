cimport cython
from penstock._kernel.loops cimport TaskWaiter
from penstock._kernel.native cimport Lock, ambient_bind, ambient_get, lock_drop, lock_take, thread_ident
from penstock._kernel.operations cimport FOREVER, deadline_after, park
from penstock._kernel.scopes cimport AMBIENT, Scope, check_ambient
from penstock._kernel.seam cimport SEAM, Runtime, Seam
from penstock._kernel.waiters cimport Node, Queue, Source, Waiter, chained, new_node, wake_all

cdef double STARVING

cdef enum:
    READ = 1
    WRITE = 2

cdef class Gate(Source):
    cdef Queue _queue
    cdef bint _admits(self, int kind, Py_ssize_t amount) noexcept
    cdef void _admit(self, int kind, Py_ssize_t amount, unsigned long ident) noexcept
    cdef void _readmit(self, int kind, Py_ssize_t amount) noexcept
    @cython.locals(node=Node, first=Waiter, last=Waiter)
    cdef Waiter _settle(self)
    cdef bint try_enter(self, int kind, Py_ssize_t amount)
    @cython.locals(scope=Scope)
    cdef bint enter_now(self, int kind, Py_ssize_t amount) except -1
    cdef bint _enter_or_queue(self, Node node)
    @cython.locals(waiter=Waiter, node=Node, deadline=double)
    cdef object enter(self, int kind, Py_ssize_t amount, object timeout, str operation, str instead, bint shielded)
    @cython.locals(waiter=TaskWaiter, node=Node, deadline=double)
    cdef object begin_enter(self, int kind, Py_ssize_t amount, object timeout, str operation, bint shielded)
    cpdef finish_enter(self, TaskWaiter waiter)

cdef object ONE

cdef class SemaphoreCore(Gate):
    cdef Py_ssize_t _size
    cdef Py_ssize_t _free
    @cython.locals(amount=Py_ssize_t)
    cdef Py_ssize_t amount(self, object n) except -1
    @cython.locals(chain=Waiter, held=Py_ssize_t)
    cdef bint give(self, Py_ssize_t amount) except -1
    @cython.locals(amount=Py_ssize_t, scope=Scope)
    cdef bint acquire_now(self, object n) except -1
    cdef bint take_free(self, Py_ssize_t amount) noexcept
    cdef bint give_free(self, Py_ssize_t amount) noexcept
    cpdef bint enter_shielded(self, object timeout, str operation) except -1
    cpdef begin_acquire(self, object n, object timeout)

cdef class RWMutexCore(Gate):
    cdef Py_ssize_t _readers
    cdef unsigned long _holder
    cdef bint _writing
    cpdef bint take_now(self, int kind) except -1
    cpdef bint try_take(self, int kind)
    cpdef take(self, int kind, object timeout, bint shielded)
    cpdef begin_take(self, int kind, object timeout, bint shielded)
    @cython.locals(chain=Waiter, held=bint)
    cpdef give(self, int kind)

cdef class MutexCore(Source):
    cdef bint _locked
    cdef unsigned long _holder
    cdef bint _waking
    cdef Queue _queue
    @cython.locals(taken=bint)
    cdef bint try_lock(self) noexcept
    @cython.locals(scope=Scope)
    cdef bint lock_now(self) except -1
    @cython.locals(waiter=Waiter, held=bint)
    cdef bint unlock(self) except -1
    @cython.locals(node=Node)
    cdef Waiter _pass_on(self)
    cdef bint _enter_or_queue(self, Node node, bint again)
    @cython.locals(waiter=Waiter, node=Node, deadline=double, since=double, again=bint)
    cdef object lock(self, object timeout, bint shielded)
    @cython.locals(waiter=TaskWaiter, node=Node)
    cpdef begin_take(self, double deadline, double since, bint again, bint shielded)
    @cython.locals(node=Node)
    cpdef bint finish_take(self, TaskWaiter waiter) except -1

cdef class ConditionCore(Source):
    cdef Queue _queue
    @cython.locals(node=Node, first=Waiter, last=Waiter)
    cdef Waiter _fire(self, Py_ssize_t n)
    @cython.locals(chain=Waiter)
    cdef object notify_some(self, Py_ssize_t n)
    @cython.locals(node=Node)
    cdef void stand(self, Waiter waiter)
    @cython.locals(waiter=Waiter)
    cpdef begin_wait_in_thread(self)
    cpdef wait_in_thread(self, Waiter waiter, double deadline)
    @cython.locals(waiter=TaskWaiter)
    cpdef begin_wait(self, double deadline)
    cpdef finish_wait(self, TaskWaiter waiter)
    cpdef abandon(self, Waiter waiter)
