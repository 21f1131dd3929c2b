cdef extern from "parking.h":
    ctypedef struct Parker "pk_parker":
        pass
    int parker_park(Parker, double, bint, bint) except -1
    void parker_wake(Parker) noexcept
    void parker_free(Parker) noexcept
    int parker_sleepers() noexcept
    void raise_soon(object) noexcept
    void parking_after_fork() noexcept
