#include "dial.h"

#include "race.h"
#include "settings.h"

/* Milliseconds for the others when a shared port has said that nobody is there: most likely they
 * lead to the same one; as in dialing/dial.py. */
enum { LAST_CHANCE = 3000 };

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

/* Small messages go back and forth, and NAT boxes forget silent connections. */
static void set_options(int fd)
{
    int on = 1;

    CALL(setsockopt, fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    CALL(setsockopt, fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    if (!settings.keepalive.idle)
        return;
    CALL(setsockopt, fd, IPPROTO_TCP, TCP_KEEPCNT, &settings.keepalive.count, sizeof(int));
    CALL(setsockopt, fd, IPPROTO_TCP, TCP_KEEPINTVL, &settings.keepalive.interval, sizeof(int));
    CALL(setsockopt, fd, IPPROTO_TCP, TCP_KEEPIDLE, &settings.keepalive.idle, sizeof(int));
}

/* Say whom we want, and make as sure as can be that we have got there. */
static enum outcome introduce(const struct runner *won, long deadline, long *error)
{
    long round_trip = now() - won->started;

    set_options(won->fd);
    if (send_connect(won->fd, deadline) < 0)
        return NOBODY;
    if (settings.has_secret)
        return pass_gate(won->fd, deadline, error);
    return see_whether_it_stays(won->fd, round_trip);
}

/* What the present attempt has met at each candidate, of a name's addresses the worst. */
static struct {
    enum outcome outcome;
    long error;
} met[MAX_CANDIDATES];

static void note(int index, enum outcome outcome, long error)
{
    if (outcome < met[index].outcome)
        return;
    met[index].outcome = outcome;
    met[index].error = error;
}

static void note_unreached(int index, long error)
{
    note(index, UNREACHED, error);
}

/* Tell what a candidate has led to, unless that was told already. */
static void tell(int index)
{
    const struct candidate *to = &settings.plan.list[index];
    enum outcome outcome = met[index].outcome;
    const char *why = meaning(outcome);
    long key = outcome * 4096 + (*why ? 0 : met[index].error);

    if (outcome == THROUGH || told.of[index] == key) /* or it was not needed */
        return;
    for (int i = 0; i < settings.plan.count; i++)
        if (told.of[i] == key)
            why = "the same";
    told.of[index] = key;
    told.is_new = 1;
    say("manager ", settings.plan.sock, " by ", to->host, " port ", NUMBER(to->port), ": ",
        *why ? why : reason(met[index].error), NULL);
}

/* What says more than that there was no connection comes last: of a job's output that is shown. */
static void tell_all(void)
{
    for (int reached = 0; reached <= 1; reached++)
        for (int i = 0; i < settings.plan.count; i++)
            if ((met[i].outcome != UNREACHED) == reached)
                tell(i);
}

enum outcome attempt(int *through, long deadline)
{
    static int good; /* the candidate that worked last: it comes first */
    struct race race = {.failed = note_unreached};
    struct runner *won = NULL;
    enum outcome outcome, worst = UNREACHED;

    memset(met, 0, sizeof met);
    start_race(&race, &settings.plan, good, deadline);
    while (1) {
        long got = next_winner(&race, &won), error = 0, present = now();
        if (got < 0) {
            outcome = got == -EINTR ? INTERRUPTED : worst;
            break;
        }
        /* One that takes every connection and says nothing must leave time for the others. */
        outcome = introduce(won, present + (race.deadline - present) / (1 + how_many_left(&race)),
                            &error);
        if (outcome == THROUGH) {
            const struct candidate *to = &settings.plan.list[won->index];
            met[won->index].outcome = THROUGH; /* whatever came before */
            tell_all();
            say("connected to manager ", settings.plan.sock, " by ", to->host, " port ",
                NUMBER(to->port), settings.has_secret ? ", through the gate" : ", which has no gate",
                NULL);
            good = won->index;
            *through = won->fd;
            break;
        }
        CALL(close, won->fd, 0, 0, 0, 0);
        if (outcome == INTERRUPTED)
            break;
        note(won->index, outcome, error);
        if (outcome > worst)
            worst = outcome;
        if (outcome == REFUSED || outcome == IMPOSTOR || outcome == ASKS_SECRET)
            break; /* the right one, and it will not have us */
        if (outcome == NOBODY && race.deadline > now() + LAST_CHANCE)
            race.deadline = now() + LAST_CHANCE;
    }
    end_race(&race);
    if (outcome != THROUGH && outcome != INTERRUPTED)
        tell_all();
    return outcome;
}
