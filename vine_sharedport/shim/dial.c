#include "dial.h"

#include "settings.h"

#pragma weak getaddrinfo
#pragma weak freeaddrinfo

int workers_socket;
struct told told;

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
static long send_connect(int fd, long deadline)
{
    unsigned char message[256] = {1}, *end = message + 5;
    char name[64] = "vine_sharedport worker ";
    long seconds = (deadline - now() + 999) / 1000;

    put_string((unsigned char *)name + length(name), NUMBER((unsigned long)settings.pid));
    end = put_int(end, 75); /* SHARED_PORT_CONNECT */
    end = put_string(end, settings.plan.sock);
    end = put_string(end, name);
    end = put_int(end, seconds > 0 ? seconds : 1);
    end = put_int(end, 0); /* more_args */
    message[4] = (unsigned char)(end - message - 5); /* below 256: one byte of the four */
    return transmit(fd, message, (size_t)(end - message));
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
    keep_buffer_size(workers_socket, (int)fd, SO_SNDBUF);
    keep_buffer_size(workers_socket, (int)fd, SO_RCVBUF);
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
    sent = send_connect((int)fd, deadline);
    if (sent < 0)
        outcome = NOBODY;
    else if (settings.has_secret)
        outcome = pass_gate((int)fd, deadline, error);
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

    *error = NAME_UNKNOWN;
    if (!getaddrinfo || !freeaddrinfo)
        return UNREACHED;
    /* It may take its time; signals have to reach the worker meanwhile. */
    CALL(rt_sigprocmask, SIG_SETMASK, &waiting_mask, NULL, sizeof all, 0);
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

enum outcome attempt(int *through, long deadline)
{
    static int good; /* the candidate that worked last */
    const struct plan *plan = &settings.plan;
    enum outcome worst = UNREACHED;

    for (int i = 0; i < plan->count; i++) {
        /* What worked before comes first; then the others in their order. */
        int index = i == 0 ? good : i <= good ? i - 1 : i;
        const struct candidate *to = &plan->list[index];
        /* A silent candidate must leave time for the others. */
        long share = now() + (deadline - now()) / (plan->count - i), error = 0, key;
        enum outcome outcome = (to->family ? try_address : try_name)(to, share, through, &error);
        const char *port = NUMBER(to->port), *why = meaning(outcome);

        if (outcome == INTERRUPTED)
            return INTERRUPTED;
        if (outcome == THROUGH) {
            say("connected to manager ", plan->sock, " by ", to->host, " port ", port,
                settings.has_secret ? ", through the gate" : ", which has no gate", NULL);
            good = index;
            return THROUGH;
        }
        key = outcome * 4096 + (*why ? 0 : error);
        if (told.of[index] != key) {
            for (int j = 0; j < plan->count; j++)
                if (told.of[j] == key)
                    why = "the same";
            told.of[index] = key;
            told.is_new = 1;
            say("manager ", plan->sock, " by ", to->host, " port ", port, ": ",
                *why ? why : reason(error), NULL);
        }
        if (outcome > worst)
            worst = outcome;
        if (outcome == REFUSED || outcome == IMPOSTOR || outcome == ASKS_SECRET)
            break; /* the right one, and it will not have us */
    }
    return worst;
}
