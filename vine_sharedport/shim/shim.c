/* libvine_sharedport.so: an unmodified worker's way to a manager behind a shared port.
 *
 * Preloaded (LD_PRELOAD) into the worker, it watches connect() for one reserved address and
 * then goes the whole way in: a TCP connection to the first of the manager's candidate addresses
 * that answers, HTCondor's CONNECT message, the gate. The worker gets the connection under the number of
 * its own descriptor, and from then on talks to the manager itself: the shim has no thread,
 * no process and nothing between the two. Only while a name is looked up there is a child that
 * does it; it is gone when connect() returns.
 *
 * Every other connect() is passed on to the kernel. The shim takes itself out of LD_PRELOAD
 * and its variables out of the environment when it is loaded, so tasks never see it.
 *
 * Nothing is linked; see kernel.h. What is taken from the libc that is there, if it is,
 * are weak references, declared where they are used: the environment, a name's addresses,
 * fflush() and errno.
 *
 * This file tells how it begins and what connect() does. The others have an idea each; a header
 * says what the file of its name offers:
 *
 *   memory.c      what the compiler itself calls
 *   kernel.c      system calls, and the little that we need of a libc
 *   sha256.c      SHA-256 and HMAC
 *   sinful.c      what the manager's address says
 *   candidates.c  which of its addresses are worth a try
 *   settings.c    what the environment says
 *   gate.c        the proof of the secret
 *   names.c       a name's addresses, within a time limit
 *   race.c        TCP to the first of several addresses that answers
 *   dial.c        from a candidate to a connection that the manager has taken
 *   backoff.c     what follows a failure
 *
 * Protocol: docs/protocol.md; wire/handoff.py and wire/gate.py are the same in Python.
 */
#include "backoff.h"
#include "dial.h"
#include "settings.h"

#define EXPORT __attribute__((visibility("default")))

extern int *__errno_location(void) __attribute__((weak));

enum {
    RESERVED_HOST = 0x7f565350, /* 127.86.83.80; without the shim it leads nowhere */
    RESERVED_PORT = 1,

    NOT_OURS = 1, /* an answer of none of the system calls */
};

/* --- at the start ------------------------------------------------------------------------- */

__attribute__((constructor)) static void start(int argc, char **argv, char **variables)
{
    struct given given = {.address = NULL};

    (void)argc, (void)argv;
    variables = environ_of_libc(variables);
    if (!variables)
        return;
    leave_environment(variables, &given);
    if (!given.is_check && (!given.address || !*given.address))
        return;
    stderr_is_ours = CALL(fcntl, 2, F_GETFD, 0, 0, 0) >= 0;
    read_settings(&given);
    if (given.is_check) { /* the launcher asks whether we load here, and could begin */
        CALL(write, 1, "vine_sharedport shim\n", 21, 0, 0);
        CALL(exit_group, 0, 0, 0, 0, 0);
    }
}

/* --- connect() ---------------------------------------------------------------------------- */

/* Whether memory can be read: connect() owes EFAULT for a bad pointer, not a crash.
 *
 * An impossible "how" makes the kernel read the mask and change nothing. */
static int is_readable(const void *memory)
{
    return CALL(rt_sigprocmask, -1, memory, NULL, sizeof(uint64_t), 0) != -EFAULT;
}

static int is_reserved(const struct sockaddr *address, socklen_t size)
{
    static const unsigned char mapped[12] = {[10] = 0xff, [11] = 0xff};
    const struct sockaddr_in *in = (const void *)address;
    const struct sockaddr_in6 *in6 = (const void *)address;
    uint32_t host;

    if (size < sizeof *in || size > sizeof(struct sockaddr_storage) || !is_readable(address) ||
        !is_readable((const char *)address + sizeof *in - sizeof(uint64_t)))
        return 0;
    if (in->sin_family == AF_INET)
        return in->sin_addr.s_addr == network32(RESERVED_HOST) &&
               in->sin_port == network16(RESERVED_PORT);
    if (in->sin_family != AF_INET6 || size < sizeof *in6 ||
        !is_readable((const char *)address + sizeof *in6 - sizeof(uint64_t)))
        return 0;
    memcpy(&host, in6->sin6_addr.s6_addr + 12, sizeof host);
    return !memcmp(in6->sin6_addr.s6_addr, mapped, sizeof mapped) &&
           host == network32(RESERVED_HOST) && in6->sin6_port == network16(RESERVED_PORT);
}

/* Put the connection in the place of the caller's socket, with that one's flags. */
static long take_place(int connection, int fd, long flags)
{
    long close_on_exec = CALL(fcntl, fd, F_GETFD, 0, 0, 0), got;

    if (!(flags & O_NONBLOCK))
        CALL(fcntl, connection, F_SETFL, CALL(fcntl, connection, F_GETFL, 0, 0, 0) & ~O_NONBLOCK,
             0, 0);
    got = CALL(dup3, connection, fd, close_on_exec & FD_CLOEXEC ? O_CLOEXEC : 0, 0, 0);
    CALL(close, connection, 0, 0, 0, 0);
    return got < 0 ? got : 0;
}

static long go_the_way(int fd)
{
    int connection = -1, kind = 0;
    char peer[sizeof(struct sockaddr_in6)];
    socklen_t size = sizeof kind;
    long flags = CALL(fcntl, fd, F_GETFL, 0, 0, 0), got, started;
    enum outcome outcome;

    if (flags < 0)
        return NOT_OURS;
    got = CALL(getsockopt, fd, SOL_SOCKET, SO_TYPE, &kind, &size);
    if (got < 0 || kind != SOCK_STREAM)
        return NOT_OURS;
    size = sizeof peer;
    if (CALL(getpeername, fd, peer, &size, 0, 0) == 0)
        return -EISCONN;
    if (ending)
        return -ECONNREFUSED;
    if (hold_back() < 0)
        return -ECONNABORTED;
    started = now();
    workers_socket = fd;
    stderr_is_ours &= fd != 2;
    outcome = attempt(&connection, next_deadline(started));
    if (outcome == INTERRUPTED) /* to let the worker see what the signal wants of it */
        return -ECONNABORTED;
    if (outcome != THROUGH) {
        failed(outcome, started);
        return -ECONNREFUSED;
    }
    succeeded();
    return take_place(connection, fd, flags);
}

/* Hold signals back but while we wait: one that came just before would not end the waiting. */
static long connect_to_manager(int fd)
{
    uint64_t all = ~0ull, before;
    long got;

    CALL(rt_sigprocmask, SIG_SETMASK, &all, &before, sizeof all, 0);
    waiting_mask = before;
    got = go_the_way(fd);
    CALL(rt_sigprocmask, SIG_SETMASK, &before, NULL, sizeof before, 0);
    return got;
}

EXPORT int connect(int fd, const struct sockaddr *address, socklen_t size)
{
    long got = NOT_OURS;

    if (settings.plan.count && is_reserved(address, size))
        got = connect_to_manager(fd);
    if (got == NOT_OURS)
        got = CALL(connect, fd, address, size, 0, 0);
    if (got < 0) {
        if (__errno_location)
            *__errno_location() = (int)-got;
        return -1;
    }
    return 0;
}
