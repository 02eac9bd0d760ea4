/* The kernel without a libc: system calls, and the few functions of a libc that we need.
 *
 * The shim must load beside every libc and its every version, so it links against none.
 * Calls return the kernel's answer: a result, or -errno.
 */
#ifndef VSP_KERNEL_H
#define VSP_KERNEL_H

#include <errno.h>
#include <fcntl.h>
#include <netdb.h> /* here, before names of ours that its macros would hide */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#if defined(__x86_64__)
static inline long call(long number, long a, long b, long c, long d, long e)
{
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = 0;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}
enum { STAT_MODE = 24 }; /* where struct stat has st_mode */
#elif defined(__aarch64__)
static inline long call(long number, long a, long b, long c, long d, long e)
{
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = 0;
    __asm__ volatile("svc 0"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                     : "memory");
    return x0;
}
enum { STAT_MODE = 16 };
#else
#error "the shim knows x86-64 and aarch64; elsewhere workers use the relay"
#endif

#define CALL(name, a, b, c, d, e) \
    call(SYS_##name, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e))

/* --- memory and text ---------------------------------------------------------------------- */

void *memcpy(void *restrict to, const void *restrict from, size_t size);
void *memset(void *to, int value, size_t size);
int memcmp(const void *one, const void *other, size_t size);

static inline size_t length(const char *text)
{
    size_t size = 0;
    while (text[size])
        size++;
    return size;
}

static inline int same(const char *one, const char *other)
{
    size_t size = length(one);
    return size == length(other) && !memcmp(one, other, size);
}

/* What follows the prefix, or NULL if the text does not start so. */
static inline const char *after(const char *text, const char *prefix)
{
    while (*prefix)
        if (*text++ != *prefix++)
            return NULL;
    return text;
}

static inline void wipe(void *secret, size_t size)
{
    memset(secret, 0, size);
    __asm__ volatile("" : : "r"(secret) : "memory"); /* not to be optimised away */
}

/* Both processors are little-endian; htons() is a function of the libc in musl. */
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the shim knows little-endian processors; elsewhere workers use the relay"
#endif
#define network16(value) __builtin_bswap16((uint16_t)(value))
#define network32(value) __builtin_bswap32((uint32_t)(value))

/* --- numbers and messages ----------------------------------------------------------------- */

struct number {
    char text[24];
};

/* A number's text, valid until the end of the calling expression's block. */
#define NUMBER(value) (number(&(struct number){{0}}, (value)))

const char *number(struct number *room, unsigned long value);

/* Whether descriptor 2 is standard error: where it was closed, it becomes anybody's file. */
extern int stderr_is_ours;

/* Write a line of texts, up to a NULL, to standard error; in one piece, for workers' lines mix. */
void say(const char *first, ...);

enum { NAME_UNKNOWN = 1000, NAME_SILENT, NAME_TRIED, NOT_TRIED }; /* none of the kernel's */

const char *reason(long error);

/* --- time and chance ---------------------------------------------------------------------- */

/* Milliseconds of a clock that nobody sets. */
long now(void);

/* Fill with random bytes; 0 or -errno. */
long fill_randomly(void *bytes, size_t size);

/* --- waiting ------------------------------------------------------------------------------ */

/* The worker's mask of signals, in force while we wait and only then. */
extern uint64_t waiting_mask;

/* Wait for events of a descriptor (-1: for none), at most so many milliseconds; > 0, 0, -errno. */
long wait_for(int fd, short events, long milliseconds);

/* The same for several, as ppoll(2) has them. */
long wait_for_any(struct pollfd *list, size_t count, long milliseconds);

/* Wait until the deadline for bytes to read or room to write; 0 or -errno. */
long wait_until(int fd, short events, long deadline);

/* Read exactly so many bytes, and never one more: what follows is the worker's.
 * Returns the bytes read, fewer at the end of the stream, or -errno. */
long receive(int fd, void *bytes, size_t size, long deadline);

/* A few bytes on a connection without any in flight: they fit, or something is wrong. */
long transmit(int fd, const void *bytes, size_t size);

#endif
