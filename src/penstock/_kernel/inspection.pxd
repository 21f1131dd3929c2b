cimport cython
from penstock._kernel.alarms cimport Alarm
from penstock._kernel.channel cimport ChannelCore
from penstock._kernel.conveyor cimport Conveyor
from penstock._kernel.latch cimport Countdown
from penstock._kernel.locks cimport MutexCore, RWMutexCore
from penstock._kernel.loops cimport TaskWaiter
from penstock._kernel.native cimport Lock, dict_get, lock_drop, lock_take
from penstock._kernel.operations cimport FOREVER
from penstock._kernel.seam cimport SEAM, Seam
from penstock._kernel.shards cimport WAITING as WAITING_FOR_SHARDS
from penstock._kernel.threads cimport WORKERS, Workers
from penstock._kernel.timers cimport TIMERS, TimerService
from penstock._kernel.waiters cimport Node, Queue, Source, Waiter

@cython.final
cdef class Parked:
    cdef readonly Waiter waiter
    cdef readonly str operation
    cdef readonly double since
    cdef readonly object deadline
    cdef readonly unsigned long thread
    cdef readonly object future
    cdef readonly list places
    cdef readonly list cases

@cython.locals(parked=Parked, task_waiter=TaskWaiter)
cdef Parked parked_by(Waiter waiter)
@cython.locals(source=Source, waiter=Waiter, operation=Parked)
cdef object add_place(Node node, dict parked)
@cython.locals(waits=bint)
cdef object add_waiter(Waiter waiter, dict parked)
cpdef bint still_parked(Parked parked)
cdef bint waiter_waits(Waiter waiter) noexcept
cpdef bint fail(Parked parked, object error) except -1
cpdef bint fail_waiter(Waiter waiter, object error) except -1
@cython.locals(held=bint, holder="unsigned long")
cdef object mutex_holder(MutexCore mutex)
@cython.locals(held=bint, holder="unsigned long")
cdef object rwmutex_holder(RWMutexCore mutex)
@cython.locals(channel=ChannelCore, armed=bint, due=double)
cpdef tuple timer_of(Alarm alarm)
cpdef name_of_channel(ChannelCore channel)
