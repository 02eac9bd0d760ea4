/* libvine_sharedport.so: an unmodified worker's way to a manager behind a shared port.
 *
 * Preloaded (LD_PRELOAD) into the worker, it watches connect() for one reserved address and
 * then goes the whole way in: a TCP connection to one of the manager's candidate addresses,
 * HTCondor's CONNECT message, the gate. The worker gets the connection under the number of
 * its own descriptor, and from then on talks to the manager itself: the shim has no thread,
 * no process and nothing between the two.
 *
 * Every other connect() is passed on to the kernel. The shim takes itself out of LD_PRELOAD
 * and its variables out of the environment when it is loaded, so tasks never see it.
 *
 * Nothing is linked; see shim_kernel.h. What is taken from the libc that is there, if it is,
 * are weak references: a name's addresses, errno, and the environment.
 *
 * Protocol: docs/protocol.md; wire/handoff.py and wire/gate.py are the same in Python.
 */
#include "shim_kernel.h"
#include "shim_sha256.h"
#include "shim_sinful.h"

#include <netdb.h>

#define EXPORT __attribute__((visibility("default")))

extern char **environ __attribute__((weak));
extern const char *gnu_get_libc_version(void) __attribute__((weak));
extern int *__errno_location(void) __attribute__((weak));
extern int fflush(void *) __attribute__((weak)); /* of a FILE, which we never look into */
#pragma weak getaddrinfo
#pragma weak freeaddrinfo

enum {
    RESERVED_HOST = 0x7f565350, /* 127.86.83.80; without the shim it leads nowhere */
    RESERVED_PORT = 1,

    /* sysexits.h: what the worker's exit status becomes if we end it. */
    NOT_REACHED = 75,  /* EX_TEMPFAIL */
    WRONG_SECRET = 77, /* EX_NOPERM */
    NOT_USABLE = 78,   /* EX_CONFIG */

    SECRET = 32, /* as in wire/gate.py */
    NONCE = 16,
    GREETING = 4 + NONCE,
    ANSWER = NONCE + DIGEST,

    ATTEMPT = 30 * 1000, /* milliseconds for all candidates together */
    LEAST = 3 * 1000,    /* for each attempt, even the last, or after the worker was suspended */
    LAST = 1000,         /* how long before the limit the last one begins */
    FIRST_PAUSE = 500,
    LAST_PAUSE = 30 * 1000,
    DEFAULT_LIMIT = 900, /* seconds; the worker's own */
};

static struct {
    struct plan plan; /* empty: nothing to do for us */
    int has_secret;
    unsigned char secret[SECRET];
    long limit; /* milliseconds from the start of the first attempt that failed */
} settings;

static struct {
    long first_failure, last_failure, pause; /* 0: the last attempt was none */
    int refusals;                            /* at the gate, one after the other */
    int good;                                /* the candidate that worked last */
    int status;                              /* with which the worker shall end; 0: its own */
    long pid;
    int caller; /* the worker's own socket, which is the worker's */
    uint64_t signals; /* the worker's mask: what may interrupt our waiting */
} state;

enum { NOT_OURS = 1 }; /* an answer of none of the system calls */

/* --- one attempt -------------------------------------------------------------------------- */

enum outcome {
    THROUGH,
    UNREACHED,
    NOBODY,
    SILENT,
    NO_GATE,
    REFUSED,
    IMPOSTOR,
    ASKS_SECRET,
    INTERRUPTED,
};

/* Wait until the deadline for bytes to read or room to write; 0 or -errno. */
static long wait_until(int fd, short events, long deadline)
{
    long got = wait_for(fd, events, deadline - now(), &state.signals);
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

static unsigned char *put_int(unsigned char *to, int64_t value)
{
    for (int i = 0; i < 8; i++)
        *to++ = (unsigned char)((uint64_t)value >> (56 - 8 * i));
    return to;
}

static unsigned char *put_string(unsigned char *to, const char *text)
{
    size_t size = length(text) + 1;
    memcpy(to, text, size);
    return to + size;
}

/* The CONNECT message; see wire/handoff.py. In one write: daemons before 24.12.16 may drop a
 * connection whose first bytes arrive in pieces (HTCONDOR-3420). */
static long send_connect(int fd, const char *sock, long deadline)
{
    unsigned char message[256] = {1}, *end = message + 5;
    char name[64] = "vine_sharedport worker ";
    long seconds = (deadline - now() + 999) / 1000;

    put_string((unsigned char *)name + length(name), NUMBER((unsigned long)state.pid));
    end = put_int(end, 75); /* SHARED_PORT_CONNECT */
    end = put_string(end, sock);
    end = put_string(end, name);
    end = put_int(end, seconds > 0 ? seconds : 1);
    end = put_int(end, 0); /* more_args */
    message[4] = (unsigned char)(end - message - 5); /* below 256: one byte of the four */
    return transmit(fd, message, (size_t)(end - message));
}

static void prove(const char *label, const char *sock, const unsigned char nonces[2 * NONCE],
                  unsigned char mac[DIGEST])
{
    const struct part parts[] = {{label, 6}, {sock, length(sock)}, {nonces, 2 * NONCE}};
    hmac_sha256(settings.secret, parts, COUNT(parts), mac);
}

/* Pass the gate: both sides prove that they hold the secret; see wire/gate.py. */
static enum outcome pass_gate(int fd, const char *sock, long deadline, long *error)
{
    unsigned char greeting[GREETING], answer[ANSWER], nonces[2 * NONCE];
    unsigned char proof[DIGEST], wanted[DIGEST], difference = 0;
    long got = receive(fd, greeting, sizeof greeting, deadline);

    if (got == 0 || got == -ECONNRESET || got == -EPIPE)
        return NOBODY;
    if (got == -ETIMEDOUT)
        return SILENT;
    *error = got < 0 ? -got : ECONNRESET;
    if (got > 0 && memcmp(greeting, "VSP1", (size_t)(got < 4 ? got : 4)))
        return NO_GATE;
    if (got < GREETING)
        return got == -EINTR ? INTERRUPTED : got < 0 ? UNREACHED : NOBODY;

    memcpy(nonces, greeting + 4, NONCE);
    if ((got = fill_randomly(nonces + NONCE, NONCE)) < 0) {
        *error = -got;
        return UNREACHED;
    }
    memcpy(answer, nonces + NONCE, NONCE);
    prove("client", sock, nonces, answer + NONCE);
    got = transmit(fd, answer, sizeof answer);
    if (got == 0)
        got = receive(fd, proof, sizeof proof, deadline);
    if (got >= 0 && got < DIGEST) /* an orderly end; a reset is a manager that has died */
        return REFUSED;
    if (got < 0) {
        *error = -got;
        return got == -EINTR ? INTERRUPTED : UNREACHED;
    }
    prove("server", sock, nonces, wanted);
    for (int i = 0; i < DIGEST; i++)
        difference |= (unsigned char)(proof[i] ^ wanted[i]);
    return difference ? IMPOSTOR : THROUGH;
}

/* Without a gate nobody answers; but where nobody serves, the end of stream comes at once. */
static enum outcome see_whether_it_stays(int fd, long round_trip)
{
    long most = 2 * round_trip + 50, got;
    char first;

    got = wait_for(fd, POLLIN, most < 1000 ? most : 1000, &state.signals);
    if (got == 0)
        return THROUGH;
    if (got == -EINTR)
        return INTERRUPTED;
    got = CALL(recvfrom, fd, &first, 1, MSG_PEEK, 0);
    /* A manager lets workers speak first: what comes now is a gate's greeting. */
    return got <= 0 ? NOBODY : first == 'V' ? ASKS_SECRET : THROUGH;
}

/* Carry over a buffer size that the worker has set; unset, the kernel chooses by itself. Before
 * connecting: the window's scale is agreed on then. */
static void keep_buffer_size(int from, int to, int option)
{
    int wanted = 0, usual = 0;
    socklen_t size = sizeof wanted;

    if (CALL(getsockopt, from, SOL_SOCKET, option, &wanted, &size) < 0 ||
        CALL(getsockopt, to, SOL_SOCKET, option, &usual, &size) < 0 || wanted == usual)
        return;
    wanted /= 2; /* the kernel tells twice what was set: socket(7) */
    CALL(setsockopt, to, SOL_SOCKET, option, &wanted, sizeof wanted);
}

/* Open a TCP connection; the descriptor, the caller's, or -errno. */
static long open_connection(const struct candidate *to, long deadline)
{
    union {
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
    } where;
    long fd, got;
    int error = 0, on = 1;
    socklen_t size = to->family == AF_INET ? sizeof where.in : sizeof where.in6;

    memset(&where, 0, sizeof where);
    if (to->family == AF_INET) {
        where.in.sin_family = AF_INET;
        where.in.sin_port = network16(to->port);
        memcpy(&where.in.sin_addr, to->ip, 4);
    } else {
        where.in6.sin6_family = AF_INET6;
        where.in6.sin6_port = network16(to->port);
        memcpy(&where.in6.sin6_addr, to->ip, 16);
    }
    fd = CALL(socket, to->family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, 0, 0);
    if (fd >= 0 && fd < 3) { /* where one of the standard files is closed: not to write there */
        long above = CALL(fcntl, fd, F_DUPFD_CLOEXEC, 3, 0, 0);
        CALL(close, fd, 0, 0, 0, 0);
        fd = above;
    }
    if (fd < 0)
        return fd;
    keep_buffer_size(state.caller, (int)fd, SO_SNDBUF);
    keep_buffer_size(state.caller, (int)fd, SO_RCVBUF);
    got = CALL(connect, fd, &where, size, 0, 0);
    if (got == -EINPROGRESS && (got = wait_until((int)fd, POLLOUT, deadline)) == 0) {
        size = sizeof error;
        CALL(getsockopt, fd, SOL_SOCKET, SO_ERROR, &error, &size);
        got = -error;
    }
    if (got < 0) {
        CALL(close, fd, 0, 0, 0, 0);
        return got;
    }
    /* Small messages go back and forth, and NAT boxes forget silent connections. */
    CALL(setsockopt, fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    CALL(setsockopt, fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    return fd;
}

/* Go the way in by one literal address. */
static enum outcome try_address(const struct candidate *to, long deadline, int *through,
                                long *error)
{
    enum outcome outcome;
    long started = now(), fd = open_connection(to, deadline), sent;

    if (fd < 0) {
        *error = -fd;
        return fd == -EINTR ? INTERRUPTED : UNREACHED;
    }
    sent = send_connect((int)fd, to->sock, deadline);
    if (sent < 0)
        outcome = NOBODY;
    else if (settings.has_secret)
        outcome = pass_gate((int)fd, to->sock, deadline, error);
    else
        outcome = see_whether_it_stays((int)fd, now() - started);
    if (outcome == THROUGH)
        *through = (int)fd;
    else
        CALL(close, fd, 0, 0, 0, 0);
    return outcome;
}

/* Go the way in by a name's addresses, one after the other. */
static enum outcome try_name(const struct candidate *to, long deadline, int *through, long *error)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL, *each;
    struct candidate literal = *to;
    enum outcome outcome = UNREACHED;
    const uint64_t all = ~0ull;
    int unknown;

    *error = NO_ADDRESS;
    if (!getaddrinfo || !freeaddrinfo)
        return UNREACHED;
    /* It may take its time; signals have to reach the worker meanwhile. */
    CALL(rt_sigprocmask, SIG_SETMASK, &state.signals, NULL, sizeof all, 0);
    unknown = getaddrinfo(to->host, NULL, &hints, &found);
    CALL(rt_sigprocmask, SIG_SETMASK, &all, NULL, sizeof all, 0);
    if (unknown)
        return UNREACHED;
    for (each = found; each; each = each->ai_next) {
        long left = deadline - now();
        literal.family = (sa_family_t)each->ai_family;
        if (each->ai_family == AF_INET)
            memcpy(literal.ip, &((struct sockaddr_in *)each->ai_addr)->sin_addr, 4);
        else if (each->ai_family == AF_INET6)
            memcpy(literal.ip, &((struct sockaddr_in6 *)each->ai_addr)->sin6_addr, 16);
        else
            continue;
        if (each->ai_next)
            left /= 2;
        outcome = try_address(&literal, now() + left, through, error);
        if (outcome == THROUGH || outcome == INTERRUPTED)
            break;
    }
    freeaddrinfo(found);
    return outcome;
}

static const char *meaning(enum outcome outcome)
{
    switch (outcome) {
    case NOBODY:
        return "the shared port closed the connection without a byte: no manager serves this "
               "sock id (any more), or it is too busy";
    case REFUSED:
        return "the manager closed the connection at its gate: it has another secret than this "
               "worker; submit new workers, or send them the present file";
    case IMPOSTOR:
        return "whoever serves this sock id does not hold the manager's secret; submit new "
               "workers, or send them the present file";
    case SILENT:
        return "the shared port took the connection, but no gate greeted us in time: the manager "
               "is too busy, or has no gate; then start workers without a secret file";
    case NO_GATE:
        return "what came is no gate's greeting: the manager has none, or another version of it; "
               "start workers without a secret file, or of the manager's version";
    case ASKS_SECRET:
        return "the manager asks for its secret, and this worker has none: set "
               "VINE_SHARED_PORT_SECRET_FILE to a copy of the manager's secret file";
    default:
        return "";
    }
}

/* Try every candidate once; on THROUGH the connection is the caller's. */
static enum outcome attempt(int *through, long deadline)
{
    const struct plan *plan = &settings.plan;
    enum outcome worst = UNREACHED;

    for (int i = 0; i < plan->count; i++) {
        /* What worked before comes first; then the others in their order. */
        int index = i == 0 ? state.good : i <= state.good ? i - 1 : i;
        const struct candidate *to = &plan->list[index];
        /* A silent candidate must leave time for the others. */
        long share = now() + (deadline - now()) / (plan->count - i), error = 0;
        enum outcome outcome = (to->family ? try_address : try_name)(to, share, through, &error);
        const char *port = NUMBER(to->port), *why = meaning(outcome);

        if (outcome == INTERRUPTED)
            return INTERRUPTED;
        if (outcome == THROUGH) {
            say("connected to manager ", to->sock, " by ", to->host, " port ", port,
                settings.has_secret ? ", through the gate" : ", which has no gate", NULL);
            state.good = index;
            return THROUGH;
        }
        say("manager ", to->sock, " by ", to->host, " port ", port, ": ",
            *why ? why : reason(error), NULL);
        if (outcome > worst)
            worst = outcome;
        if (outcome == REFUSED || outcome == IMPOSTOR)
            break; /* the right one, and it will not have us */
    }
    return worst;
}

/* --- failing well ------------------------------------------------------------------------- */

/* End the worker with this status: by the signal after which it says goodbye and cleans up. */
static void end_worker(int status)
{
    struct { /* the kernel's own sigaction */
        void *handler;
        unsigned long flags;
        void *restorer;
        uint64_t mask;
    } action = {NULL, 0, NULL, 0};

    state.status = status;
    CALL(rt_sigaction, SIGTERM, NULL, &action, sizeof action.mask, 0);
    if (action.handler == (void *)SIG_DFL || action.handler == (void *)SIG_IGN ||
        CALL(getpid, 0, 0, 0, 0, 0) != state.pid) /* a child without a program of its own */
        CALL(exit_group, status, 0, 0, 0, 0);
    CALL(kill, state.pid, SIGTERM, 0, 0, 0);
}

__attribute__((destructor)) static void end_with_our_status(void)
{
    if (!state.status || CALL(getpid, 0, 0, 0, 0, 0) != state.pid)
        return;
    if (fflush)
        fflush(NULL);
    CALL(exit_group, state.status, 0, 0, 0, 0);
}

/* Let the pause after a failure pass, less what has passed already; 0 or -EINTR.
 *
 * TCP to a shared port always succeeds, so the worker's own back-off never starts. */
static long hold_back(void)
{
    unsigned char chance = 0;
    long pause, left = settings.limit - (now() - state.first_failure);

    fill_randomly(&chance, 1);
    pause = state.pause / 2 + state.pause / 2 * chance / 255;
    pause -= now() - state.last_failure;
    if (state.refusals && pause < 1000) /* its manager may have ended just then */
        pause = 1000;
    if (pause > left - LAST)
        pause = left - LAST;
    return pause > 0 ? wait_for(-1, 0, pause, &state.signals) : 0;
}

static void failed(enum outcome outcome, long started)
{
    long left;

    state.last_failure = now();
    if (!state.first_failure)
        state.first_failure = started;
    state.pause = state.pause ? 2 * state.pause : FIRST_PAUSE;
    if (state.pause > LAST_PAUSE)
        state.pause = LAST_PAUSE;
    /* Once may be a manager that ends just now; who refuses twice means it. */
    state.refusals = outcome == REFUSED || outcome == IMPOSTOR ? state.refusals + 1 : 0;
    left = settings.limit - (state.last_failure - state.first_failure);
    if (state.refusals == 2) {
        say("the secret is wrong; this worker ends", NULL);
        end_worker(WRONG_SECRET);
    } else if (outcome == ASKS_SECRET) {
        say("without the secret nothing can be done; this worker ends", NULL);
        end_worker(WRONG_SECRET);
    } else if (left <= LAST) {
        say("the manager was not reached within ", NUMBER((unsigned long)settings.limit / 1000),
            " s; this worker ends", NULL);
        end_worker(NOT_REACHED);
    } else {
        say("trying again for ", NUMBER((unsigned long)left / 1000), " s more", NULL);
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
    long flags = CALL(fcntl, fd, F_GETFL, 0, 0, 0), got, started, deadline;
    enum outcome outcome;

    if (flags < 0)
        return NOT_OURS;
    got = CALL(getsockopt, fd, SOL_SOCKET, SO_TYPE, &kind, &size);
    if (got < 0 || kind != SOCK_STREAM)
        return NOT_OURS;
    size = sizeof peer;
    if (CALL(getpeername, fd, peer, &size, 0, 0) == 0)
        return -EISCONN;
    if (state.status) /* the worker has been told to end */
        return -ECONNREFUSED;
    if (state.first_failure && hold_back() < 0)
        return -ECONNABORTED;
    started = now();
    deadline = (state.first_failure ? state.first_failure : started) + settings.limit;
    if (deadline > started + ATTEMPT)
        deadline = started + ATTEMPT;
    if (deadline < started + LEAST)
        deadline = started + LEAST;
    state.caller = fd;
    stderr_is_ours &= fd != 2;
    outcome = attempt(&connection, deadline);
    if (outcome == INTERRUPTED) /* to let the worker see what the signal wants of it */
        return -ECONNABORTED;
    if (outcome != THROUGH) {
        failed(outcome, started);
        return -ECONNREFUSED;
    }
    state.first_failure = state.last_failure = state.pause = state.refusals = 0;
    return take_place(connection, fd, flags);
}

/* Hold signals back but while we wait: one that came just before would not end the waiting. */
static long connect_to_manager(int fd)
{
    uint64_t all = ~0ull, before;
    long got;

    CALL(rt_sigprocmask, SIG_SETMASK, &all, &before, sizeof all, 0);
    state.signals = before;
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

/* --- at the start ------------------------------------------------------------------------- */

static void give_up(const char *what, const char *value, const char *why)
{
    char excerpt[200] = "";
    size_t size = length(value), most = sizeof excerpt - sizeof "...";
    int is_long = size > most;

    memcpy(excerpt, value, is_long ? most : size); /* the reason needs room too */
    say(what, excerpt, is_long ? "...: " : ": ", why, NULL);
    CALL(exit_group, NOT_USABLE, 0, 0, 0, 0);
}

/* Read the secret now: the worker changes its directory before it connects. */
static void read_secret(const char *path)
{
    unsigned char status[256], file[SECRET + 1];
    long fd, size = -1;
    uint32_t mode;

    /* Not to wait for a writer, should it be a pipe. */
    fd = CALL(openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0, 0);
    if (fd < 0)
        give_up("cannot read the secret file ", path, reason(-fd));
    if (CALL(fstat, fd, status, 0, 0, 0) == 0) {
        memcpy(&mode, status + STAT_MODE, sizeof mode);
        if ((mode & 0170000) != 0100000) /* S_IFMT, S_IFREG */
            give_up("cannot read the secret file ", path, "it is no regular file");
        size = CALL(read, fd, file, sizeof file, 0, 0);
    }
    CALL(close, fd, 0, 0, 0, 0);
    if (size != SECRET)
        give_up("cannot use the secret file ", path,
                size < 0        ? "it cannot be read"
                : size > SECRET ? "it has more than 32 bytes; copy the manager's file again"
                                : "it has fewer than 32 bytes; copy the manager's file again");
    memcpy(settings.secret, file, SECRET);
    wipe(file, sizeof file);
    settings.has_secret = 1;
}

/* Whether an entry of LD_PRELOAD is this library. */
static int is_ours(const char *entry, size_t size)
{
    static const char name[] = "libvine_sharedport.so";
    size_t ours = sizeof name - 1;
    return size >= ours && !memcmp(entry + size - ours, name, ours) &&
           (size == ours || entry[size - ours - 1] == '/');
}

/* Take our entries out of a value of LD_PRELOAD, in place; whether any is left. */
static int leave_preload(char *value)
{
    char *to = value;
    for (const char *from = value; *from;) {
        size_t size = 0;
        while (from[size] && from[size] != ':' && from[size] != ' ') /* ld.so(8) */
            size++;
        if (!is_ours(from, size)) {
            size += from[size] != 0; /* with its separator */
            memcpy(to, from, size);
            to += size;
            from += size;
        } else {
            from += size + (from[size] != 0);
        }
    }
    while (to > value && (to[-1] == ':' || to[-1] == ' '))
        to--;
    *to = 0;
    return to > value;
}

static void take(const char **setting, const char *variable, const char *name)
{
    if (after(variable, name))
        *setting = after(variable, name);
}

/* glibc may call us before it has set its own variable, but hands us the array; musl does not. */
static char **environ_of_libc(char **given)
{
    return &environ && environ ? environ : gnu_get_libc_version ? given : NULL;
}

#ifndef VSP_TEST
__attribute__((constructor))
#endif
static void start(int argc, char **argv, char **given)
{
    char **variables = environ_of_libc(given), **kept;
    const char *address = NULL, *secret = NULL, *network = NULL, *limit = NULL, *value, *wrong;
    int is_check = 0;

    (void)argc, (void)argv;
    if (!variables)
        return;
    for (char **each = kept = variables; (*kept = *each); each++) {
        value = after(*each, "VINE_SHARED_PORT_");
        if (value) { /* all of ours go */
            take(&address, value, "ADDRESS=");
            take(&secret, value, "SECRET_FILE=");
            take(&network, value, "PRIVATE_NETWORK=");
            take(&limit, value, "CONNECT_TIMEOUT=");
            is_check |= same(value, "CHECK=1");
        } else if (!after(*each, "LD_PRELOAD=") || leave_preload(*each + length("LD_PRELOAD="))) {
            kept++;
        }
    }
    if (!is_check && (!address || !*address))
        return;
    stderr_is_ours = CALL(fcntl, 2, F_GETFD, 0, 0, 0) >= 0;
    state.pid = CALL(getpid, 0, 0, 0, 0, 0);
    if (address && (wrong = make_plan(&settings.plan, address, network)))
        give_up("cannot use the manager's address ", address, wrong);
    settings.limit = DEFAULT_LIMIT * 1000L;
    if (limit && *limit) {
        settings.limit = read_number(limit, length(limit), 8, 99999999) * 1000;
        if (settings.limit <= 0)
            give_up("cannot use VINE_SHARED_PORT_CONNECT_TIMEOUT=", limit,
                    "wanted a whole number of seconds, 1 or more");
    }
    if (secret && *secret)
        read_secret(secret);
    if (is_check) { /* the launcher asks whether we load here, and could begin */
        CALL(write, 1, "vine_sharedport shim\n", 21, 0, 0);
        CALL(exit_group, 0, 0, 0, 0, 0);
    }
}

/* --- for the tests alone ------------------------------------------------------------------ */

#ifdef VSP_TEST
EXPORT void vsp_sha256(const void *data, unsigned long size, unsigned char out[DIGEST])
{
    struct sha256 hash;
    sha256_start(&hash);
    sha256_add(&hash, data, size);
    sha256_finish(&hash, out);
}

EXPORT void vsp_hmac_sha256(const unsigned char key[DIGEST], const void *data, unsigned long size,
                            unsigned char out[DIGEST])
{
    struct part part = {data, size};
    hmac_sha256(key, &part, 1, out);
}

/* Write the plan, a line "HOST PORT SOCK" for each candidate; or return -1 and what is wrong. */
EXPORT int vsp_parse_in(const char *sinful, const char *network, char *out, unsigned long size)
{
    static struct plan plan;
    const char *wrong = make_plan(&plan, sinful, network);
    unsigned long at = 0;

    if (wrong) {
        for (; wrong[at] && at < size - 1; at++)
            out[at] = wrong[at];
        out[at] = 0;
        return -1;
    }
    for (int i = 0; i < plan.count; i++) {
        const char *texts[] = {plan.list[i].host, " ", NUMBER(plan.list[i].port), " ",
                               plan.list[i].sock, "\n"};
        for (size_t j = 0; j < COUNT(texts); j++)
            for (const char *c = texts[j]; *c && at < size - 1; c++)
                out[at++] = *c;
    }
    out[at] = 0;
    return plan.count;
}

EXPORT int vsp_parse(const char *sinful, char *out, unsigned long size)
{
    return vsp_parse_in(sinful, NULL, out, size);
}
#endif
