/* Tells ThreadSanitizer that what was done with a block of memory comes before what is done with it when it has been
   given out again. `install` wraps the allocators of objects and of what belongs to them. */
#include <Python.h>
#include <sanitizer/tsan_interface.h>

static PyMemAllocatorEx originals[2];

static void *given_out(void *block) {
    if (block != NULL) __tsan_acquire(block);
    return block;
}

static void *tsan_malloc(void *original, size_t size) {
    PyMemAllocatorEx *allocator = original;
    return given_out(allocator->malloc(allocator->ctx, size));
}

static void *tsan_calloc(void *original, size_t count, size_t size) {
    PyMemAllocatorEx *allocator = original;
    return given_out(allocator->calloc(allocator->ctx, count, size));
}

static void *tsan_realloc(void *original, void *block, size_t size) {
    PyMemAllocatorEx *allocator = original;
    if (block != NULL) __tsan_release(block);
    return given_out(allocator->realloc(allocator->ctx, block, size));
}

static void tsan_free(void *original, void *block) {
    PyMemAllocatorEx *allocator = original;
    if (block != NULL) {
        __tsan_acquire(block);
        __tsan_release(block);
    }
    allocator->free(allocator->ctx, block);
}

void install(void) {
    PyMemAllocatorDomain domains[2] = {PYMEM_DOMAIN_OBJ, PYMEM_DOMAIN_MEM};
    for (int at = 0; at < 2; at++) {
        PyMemAllocatorEx wrapper = {&originals[at], tsan_malloc, tsan_calloc, tsan_realloc, tsan_free};
        PyMem_GetAllocator(domains[at], &originals[at]);
        PyMem_SetAllocator(domains[at], &wrapper);
    }
}
