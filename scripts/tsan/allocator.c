/* Tells ThreadSanitizer that what was done with a block of memory comes before what is done with it when it has been
   given out again. `install` wraps the allocator of objects. */
#include <Python.h>
#include <sanitizer/tsan_interface.h>

static PyMemAllocatorEx original;

static void *given_out(void *block) {
    if (block != NULL) __tsan_acquire(block);
    return block;
}

static void *tsan_malloc(void *context, size_t size) {
    return given_out(original.malloc(original.ctx, size));
}

static void *tsan_calloc(void *context, size_t count, size_t size) {
    return given_out(original.calloc(original.ctx, count, size));
}

static void *tsan_realloc(void *context, void *block, size_t size) {
    if (block != NULL) __tsan_release(block);
    return given_out(original.realloc(original.ctx, block, size));
}

static void tsan_free(void *context, void *block) {
    if (block != NULL) {
        __tsan_acquire(block);
        __tsan_release(block);
    }
    original.free(original.ctx, block);
}

void install(void) {
    PyMemAllocatorEx wrapper = {NULL, tsan_malloc, tsan_calloc, tsan_realloc, tsan_free};
    PyMem_GetAllocator(PYMEM_DOMAIN_OBJ, &original);
    PyMem_SetAllocator(PYMEM_DOMAIN_OBJ, &wrapper);
}
