/* What the compiler itself calls, by the names of a libc: for a library that is linked with none.
 *
 * A program that is, such as a fuzz target, leaves this file out. The flags of shim_build.py keep
 * the compiler from making calls of these very functions of the loops.
 */
#include "kernel.h"

void *memcpy(void *restrict to, const void *restrict from, size_t size)
{
    unsigned char *target = to;
    const unsigned char *source = from;
    while (size--)
        *target++ = *source++;
    return to;
}

void *memset(void *to, int value, size_t size)
{
    unsigned char *target = to;
    while (size--)
        *target++ = (unsigned char)value;
    return to;
}

int memcmp(const void *one, const void *other, size_t size)
{
    const unsigned char *a = one, *b = other;
    for (; size--; a++, b++)
        if (*a != *b)
            return *a - *b;
    return 0;
}
