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
static long call(long number, long a, long b, long c, long d, long e)
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
static long call(long number, long a, long b, long c, long d, long e)
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

#ifndef VSP_WITH_LIBC
/* The compiler itself calls these, so they need their names; hidden from everybody else. GCC
 * must not recognise the loops and call the functions from themselves. */
#ifdef __clang__
#define OWN __attribute__((visibility("hidden"), used))
#else
#define OWN \
    __attribute__((visibility("hidden"), used, optimize("no-tree-loop-distribute-patterns")))
#endif

OWN void *memcpy(void *restrict to, const void *restrict from, size_t size)
{
    unsigned char *target = to;
    const unsigned char *source = from;
    while (size--)
        *target++ = *source++;
    return to;
}

OWN void *memset(void *to, int value, size_t size)
{
    unsigned char *target = to;
    while (size--)
        *target++ = (unsigned char)value;
    return to;
}

OWN int memcmp(const void *one, const void *other, size_t size)
{
    const unsigned char *a = one, *b = other;
    for (; size--; a++, b++)
        if (*a != *b)
            return *a - *b;
    return 0;
}
#else
#include <string.h>
#endif

static size_t length(const char *text)
{
    size_t size = 0;
    while (text[size])
        size++;
    return size;
}

static int same(const char *one, const char *other)
{
    size_t size = length(one);
    return size == length(other) && !memcmp(one, other, size);
}

/* What follows the prefix, or NULL if the text does not start so. */
static const char *after(const char *text, const char *prefix)
{
    while (*prefix)
        if (*text++ != *prefix++)
            return NULL;
    return text;
}

static void wipe(void *secret, size_t size)
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

static const char *number(struct number *room, unsigned long value)
{
    char *text = room->text + sizeof room->text - 1;
    *text = 0;
    do {
        *--text = (char)('0' + value % 10);
        value /= 10;
    } while (value);
    return text;
}

/* Whether descriptor 2 is standard error: where it was closed, it becomes anybody's file. */
static int stderr_is_ours;

/* Write a line of texts, up to a NULL, to standard error; in one piece, for workers' lines mix. */
static void say(const char *first, ...)
{
    char line[1024];
    const char prefix[] = "vine_sharedport: ";
    size_t size = sizeof prefix - 1;
    va_list more;

    if (!stderr_is_ours)
        return;
    memcpy(line, prefix, size);
    va_start(more, first);
    for (const char *text = first; text; text = va_arg(more, const char *))
        for (; *text && size < sizeof line - 1; text++)
            /* What a stranger chose must not forge a line or steer a terminal. */
            line[size++] = *text >= ' ' && *text <= '~' ? *text : '?';
    va_end(more);
    line[size++] = '\n';
    CALL(write, 2, line, size, 0, 0);
}

enum { NAME_UNKNOWN = 1000 }; /* not one of the kernel's */

static const char *reason(long error)
{
    static const struct {
        int number;
        const char *text;
    } known[] = {
        {EACCES, "permission denied"},
        {ECONNABORTED, "interrupted by a signal"},
        {ECONNREFUSED, "connection refused"},
        {ECONNRESET, "connection reset"},
        {EHOSTUNREACH, "no route to host"},
        {EISDIR, "is a directory"},
        {ELOOP, "too many symbolic links"},
        {EMFILE, "too many open files in this process"},
        {ENAMETOOLONG, "name too long"},
        {ENETUNREACH, "network unreachable"},
        {ENFILE, "too many open files on this machine"},
        {ENOENT, "no such file"},
        {ENOTDIR, "not a directory"},
        {EPERM, "not permitted"},
        {EAFNOSUPPORT, "this machine does not have that address family"},
        {EADDRNOTAVAIL, "no such address on this machine"},
        {ETIMEDOUT, "no answer in time"},
        {NAME_UNKNOWN, "the name service has no address of it"},
    };
    static struct number other;
    for (size_t i = 0; i < COUNT(known); i++)
        if (known[i].number == error)
            return known[i].text;
    return number(&other, (unsigned long)error); /* errno(1) names it */
}

/* --- time and chance ---------------------------------------------------------------------- */

/* Milliseconds of a clock that nobody sets. */
static long now(void)
{
    struct timespec time;
    CALL(clock_gettime, CLOCK_MONOTONIC, &time, 0, 0, 0);
    return time.tv_sec * 1000L + time.tv_nsec / 1000000;
}

/* Fill with random bytes; 0 or -errno. */
static long fill_randomly(void *bytes, size_t size)
{
    long got = CALL(getrandom, bytes, size, 0, 0, 0);
    if (got == -ENOSYS) { /* before Linux 3.17 */
        long fd = CALL(openat, AT_FDCWD, "/dev/urandom", O_RDONLY | O_CLOEXEC, 0, 0);
        if (fd < 0)
            return fd;
        got = CALL(read, fd, bytes, size, 0, 0);
        CALL(close, fd, 0, 0, 0, 0);
    }
    return got == (long)size ? 0 : got < 0 ? got : -EIO;
}

/* --- waiting ------------------------------------------------------------------------------ */

/* The worker's mask of signals, in force while we wait and only then. */
static uint64_t waiting_mask;

/* Wait for events of a descriptor (-1: for none), at most so many milliseconds; > 0, 0, -errno. */
static long wait_for(int fd, short events, long milliseconds)
{
    struct pollfd one = {.fd = fd, .events = events};
    struct timespec time;
    if (milliseconds < 0)
        milliseconds = 0;
    time.tv_sec = milliseconds / 1000;
    time.tv_nsec = milliseconds % 1000 * 1000000;
    return CALL(ppoll, &one, fd >= 0, &time, &waiting_mask, sizeof waiting_mask);
}

/* Wait until the deadline for bytes to read or room to write; 0 or -errno. */
static long wait_until(int fd, short events, long deadline)
{
    long got = wait_for(fd, events, deadline - now());
    return got > 0 ? 0 : got == 0 ? -ETIMEDOUT : got;
}

/* Read exactly so many bytes, and never one more: what follows is the worker's.
 * Returns the bytes read, fewer at the end of the stream, or -errno. */
static long receive(int fd, void *bytes, size_t size, long deadline)
{
    size_t have = 0;
    while (have < size) {
        long got = CALL(recvfrom, fd, (char *)bytes + have, size - have, 0, 0);
        if (got == 0)
            break;
        if (got == -EAGAIN)
            got = wait_until(fd, POLLIN, deadline);
        else if (got > 0)
            have += (size_t)got;
        if (got < 0)
            return got;
    }
    return (long)have;
}

/* A few bytes on a connection without any in flight: they fit, or something is wrong. */
static long transmit(int fd, const void *bytes, size_t size)
{
    long sent = CALL(sendto, fd, bytes, size, MSG_NOSIGNAL, 0);
    return sent < 0 ? sent : sent == (long)size ? 0 : -EPIPE;
}

#endif
