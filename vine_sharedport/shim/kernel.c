#include "kernel.h"

int stderr_is_ours;
uint64_t waiting_mask;

const char *number(struct number *room, unsigned long value)
{
    char *text = room->text + sizeof room->text - 1;
    *text = 0;
    do {
        *--text = (char)('0' + value % 10);
        value /= 10;
    } while (value);
    return text;
}

void say(const char *first, ...)
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

const char *reason(long error)
{
    static const struct {
        int number;
        const char *text;
    } known[] = {
        {EACCES, "permission denied"},
        {EAGAIN, "too many processes"},
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
        {ENOMEM, "out of memory"},
        {ENOTDIR, "not a directory"},
        {EPERM, "not permitted"},
        {EAFNOSUPPORT, "this machine does not have that address family"},
        {EADDRNOTAVAIL, "no such address on this machine"},
        {ETIMEDOUT, "no answer in time"},
        {NAME_UNKNOWN, "the name service has no address of it"},
        {NAME_SILENT, "the name service did not answer in time"},
        {NAME_TRIED, "its addresses were tried already"},
        {NOT_TRIED, "not tried, for lack of time"},
    };
    static struct number other;
    for (size_t i = 0; i < COUNT(known); i++)
        if (known[i].number == error)
            return known[i].text;
    return number(&other, (unsigned long)error); /* errno(1) names it */
}

long now(void)
{
    struct timespec time;
    CALL(clock_gettime, CLOCK_MONOTONIC, &time, 0, 0, 0);
    return time.tv_sec * 1000L + time.tv_nsec / 1000000;
}

long fill_randomly(void *bytes, size_t size)
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

long wait_for_any(struct pollfd *list, size_t count, long milliseconds)
{
    struct timespec time;
    if (milliseconds < 0)
        milliseconds = 0;
    time.tv_sec = milliseconds / 1000;
    time.tv_nsec = milliseconds % 1000 * 1000000;
    return CALL(ppoll, list, count, &time, &waiting_mask, sizeof waiting_mask);
}

long wait_for(int fd, short events, long milliseconds)
{
    struct pollfd one = {.fd = fd, .events = events};
    return wait_for_any(&one, fd >= 0, milliseconds);
}

long wait_until(int fd, short events, long deadline)
{
    long got = wait_for(fd, events, deadline - now());
    return got > 0 ? 0 : got == 0 ? -ETIMEDOUT : got;
}

long receive(int fd, void *bytes, size_t size, long deadline)
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

long transmit(int fd, const void *bytes, size_t size)
{
    long sent = CALL(sendto, fd, bytes, size, MSG_NOSIGNAL, 0);
    return sent < 0 ? sent : sent == (long)size ? 0 : -EPIPE;
}
