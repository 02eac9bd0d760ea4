#include "race.h"

#include "dial.h"

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

long begin_connection(const struct address *to, uint16_t port)
{
    union {
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
    } where;
    socklen_t size = to->family == AF_INET ? sizeof where.in : sizeof where.in6;
    long fd, got;

    memset(&where, 0, sizeof where);
    if (to->family == AF_INET) {
        where.in.sin_family = AF_INET;
        where.in.sin_port = network16(port);
        memcpy(&where.in.sin_addr, to->ip, 4);
    } else {
        where.in6.sin6_family = AF_INET6;
        where.in6.sin6_port = network16(port);
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
    if (got < 0 && got != -EINPROGRESS) {
        CALL(close, fd, 0, 0, 0, 0);
        return got;
    }
    return fd;
}

static struct runner *add_runner(struct race *race, int at, int index)
{
    struct runner *made;

    if (race->count == MAX_RUNNERS)
        return NULL;
    for (int i = race->count++; i > at; i--)
        race->list[i] = race->list[i - 1];
    made = &race->list[at];
    memset(made, 0, sizeof *made);
    made->index = index;
    made->port = race->plan->list[index].port;
    return made;
}

static void add_candidate(struct race *race, int index)
{
    const struct candidate *it = &race->plan->list[index];
    struct runner *made = add_runner(race, race->count, index);

    made->to.family = it->family;
    memcpy(made->to.ip, it->ip, sizeof it->ip);
}

void start_race(struct race *race, const struct plan *plan, int first, long deadline)
{
    race->plan = plan;
    race->count = 0;
    race->deadline = deadline;
    add_candidate(race, first);
    for (int names = 0; names < 2; names++)
        for (int i = 0; i < plan->count; i++)
            if (i != first && (plan->list[i].family == 0) == names)
                add_candidate(race, i);
}

static void give_up(struct race *race, struct runner *it, long error)
{
    it->progress = OUT;
    race->next_start = now();
    race->failed(it->index, error);
}

static void start_runner(struct race *race, struct runner *it)
{
    long got;

    it->started = now();
    race->next_start = it->started + STAGGER;
    if (!it->to.family) {
        got = ask(&it->question, race->plan->list[it->index].host);
        it->progress = RESOLVING;
    } else {
        got = begin_connection(&it->to, it->port);
        it->fd = (int)got;
        it->progress = CONNECTING;
    }
    if (got < 0)
        give_up(race, it, -got);
}

static int is_there(const struct race *race, const struct address *to, uint16_t port)
{
    size_t size = to->family == AF_INET ? 4 : 16;
    for (int i = 0; i < race->count; i++)
        if (race->list[i].to.family == to->family && race->list[i].port == port &&
            !memcmp(race->list[i].to.ip, to->ip, size))
            return 1;
    return 0;
}

/* Put what a name has led to behind it, families in turns (RFC 8305, 4). */
static void take_addresses(struct race *race, int at)
{
    struct runner *name = &race->list[at], *made;
    struct answer answer;
    int index = name->index, next[2] = {0, 0}, end = at + 1;
    uint16_t port = name->port;

    take_answer(&name->question, &answer);
    for (int turn = 0, left = answer.count; left; turn = !turn) {
        int *i = &next[turn];
        while (*i < answer.count &&
               (answer.list[*i].family != answer.list[0].family) != turn)
            ++*i;
        if (*i == answer.count)
            continue;
        left--;
        if (!is_there(race, &answer.list[*i], port) && (made = add_runner(race, end, index))) {
            made->to = answer.list[*i];
            end++;
        }
        ++*i;
    }
    name->progress = OUT;
    race->next_start = now();
    if (end == at + 1)
        race->failed(index, answer.count ? NAME_TRIED : NAME_UNKNOWN);
}

static struct runner *first_waiting(struct race *race)
{
    for (int i = 0; i < race->count; i++)
        if (race->list[i].progress == WAITING)
            return &race->list[i];
    return NULL;
}

int how_many_left(const struct race *race)
{
    int left = 0;
    for (int i = 0; i < race->count; i++)
        left += race->list[i].progress != OUT;
    return left;
}

/* Stop what is under way; it may be tried again. */
static void stop_runner(struct runner *it)
{
    if (it->progress == CONNECTING)
        CALL(close, it->fd, 0, 0, 0, 0);
    else if (it->progress == RESOLVING)
        end_question(&it->question);
}

static void run_out(struct race *race)
{
    for (int i = 0; i < race->count; i++) {
        struct runner *it = &race->list[i];
        enum progress progress = it->progress;
        stop_runner(it);
        if (progress != OUT)
            give_up(race, it,
                    progress == CONNECTING  ? ETIMEDOUT
                    : progress == RESOLVING ? NAME_SILENT
                                            : NOT_TRIED);
    }
}

/* Take the connection, and leave the other ones. */
static void win(struct race *race, struct runner *it)
{
    it->progress = OUT;
    for (int i = 0; i < race->count; i++)
        if (race->list[i].progress == CONNECTING) {
            stop_runner(&race->list[i]);
            race->list[i].progress = WAITING;
        }
}

/* Look at those of which something was heard; whether one of them has connected. */
static struct runner *look(struct race *race, const struct pollfd *polled, const int *whose,
                           int count)
{
    struct runner *winner = NULL;
    int answered = -1;

    for (int i = 0; i < count; i++) {
        struct runner *it = &race->list[whose[i]];
        int error = 0;
        socklen_t size = sizeof error;

        if (!polled[i].revents)
            continue;
        if (it->progress == RESOLVING) {
            answered = whose[i];
            continue;
        }
        CALL(getsockopt, it->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        if (error) {
            stop_runner(it);
            give_up(race, it, error);
        } else if (!winner) {
            winner = it;
        }
    }
    /* One name at a time, and not beside a winner: its addresses move those behind it. */
    if (answered >= 0 && !winner)
        take_addresses(race, answered);
    return winner;
}

long next_winner(struct race *race, struct runner **won)
{
    race->next_start = now();
    while (how_many_left(race)) {
        struct pollfd polled[MAX_RUNNERS];
        struct runner *next = first_waiting(race);
        int whose[MAX_RUNNERS], count = 0;
        long present = now(), until = race->deadline, got;

        if (present >= race->deadline) {
            run_out(race);
            break;
        }
        for (int i = 0; i < race->count; i++) {
            const struct runner *it = &race->list[i];
            if (it->progress != CONNECTING && it->progress != RESOLVING)
                continue;
            whose[count] = i;
            polled[count].fd = it->progress == CONNECTING ? it->fd : it->question.fd;
            polled[count].events = it->progress == CONNECTING ? POLLOUT : POLLIN;
            polled[count++].revents = 0;
        }
        if (next && (present >= race->next_start || !count)) {
            start_runner(race, next);
            continue;
        }
        if (next && race->next_start < until)
            until = race->next_start;
        got = wait_for_any(polled, (size_t)count, until - present);
        if (got < 0)
            return got;
        if (got > 0 && (*won = look(race, polled, whose, count)) != NULL) {
            win(race, *won);
            return 0;
        }
    }
    return -ETIMEDOUT;
}

void end_race(struct race *race)
{
    for (int i = 0; i < race->count; i++) {
        stop_runner(&race->list[i]);
        race->list[i].progress = OUT;
    }
}
