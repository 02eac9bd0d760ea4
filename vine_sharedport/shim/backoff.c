#include "backoff.h"

#include "dial.h"
#include "settings.h"

extern int fflush(void *) __attribute__((weak)); /* of a FILE, which we never look into */

enum {
    /* Milliseconds. */
    ATTEMPT = 30 * 1000, /* for all candidates together */
    LEAST = 3 * 1000,    /* for each attempt, even the last, or after the worker was suspended */
    LAST = 1000,         /* how long before the limit the last one begins */
    FIRST_PAUSE = 500,
    LAST_PAUSE = 30 * 1000,

    /* As in errors.py, ExitStatus: what the worker's exit status becomes if we end it. */
    LATER = 75,        /* EX_TEMPFAIL */
    WRONG_SECRET = 77, /* EX_NOPERM */
};

static struct {
    long first, last; /* when the first one began, and the last one ended; 0: there is none */
    long pause;       /* after the last */
    int refusals;     /* at the gate, one after the other */
} failures;

static int was_reached;
int ending;

long next_deadline(long started)
{
    long deadline = (failures.first ? failures.first : started) + settings.limit;
    if (deadline > started + ATTEMPT)
        deadline = started + ATTEMPT;
    if (deadline < started + LEAST)
        deadline = started + LEAST;
    return deadline;
}

long hold_back(void)
{
    unsigned char chance = 0;
    long pause, left = settings.limit - (now() - failures.first);

    if (!failures.first)
        return 0;
    fill_randomly(&chance, 1);
    pause = failures.pause / 2 + failures.pause / 2 * chance / 255;
    pause -= now() - failures.last;
    if (failures.refusals && pause < 1000) /* its manager may have ended just then */
        pause = 1000;
    if (pause > left - LAST)
        pause = left - LAST;
    return pause > 0 ? wait_for(-1, 0, pause) : 0;
}

/* End the worker with this status: by the signal after which it says goodbye and cleans up. */
static void end_worker(int status)
{
    struct { /* the kernel's own sigaction */
        void *handler;
        unsigned long flags;
        void *restorer;
        uint64_t mask;
    } action = {NULL, 0, NULL, 0};

    ending = status;
    CALL(rt_sigaction, SIGTERM, NULL, &action, sizeof action.mask, 0);
    if (action.handler == (void *)SIG_DFL || action.handler == (void *)SIG_IGN ||
        CALL(getpid, 0, 0, 0, 0, 0) != settings.pid) /* a child without a program of its own */
        CALL(exit_group, status, 0, 0, 0, 0);
    CALL(kill, settings.pid, SIGTERM, 0, 0, 0);
}

__attribute__((destructor)) static void end_with_our_status(void)
{
    if (!ending || CALL(getpid, 0, 0, 0, 0, 0) != settings.pid)
        return;
    if (fflush)
        fflush(NULL);
    CALL(exit_group, ending, 0, 0, 0, 0);
}

void succeeded(void)
{
    was_reached = 1;
    memset(&failures, 0, sizeof failures);
    memset(&told, 0, sizeof told);
}

void failed(enum outcome outcome, long started)
{
    long left;

    failures.last = now();
    if (!failures.first)
        failures.first = started;
    failures.pause = failures.pause ? 2 * failures.pause : FIRST_PAUSE;
    if (failures.pause > LAST_PAUSE)
        failures.pause = LAST_PAUSE;
    /* Once may be a manager that ends just now; who refuses twice means it. */
    failures.refusals = outcome == REFUSED || outcome == IMPOSTOR ? failures.refusals + 1 : 0;
    left = settings.limit - (failures.last - failures.first);
    if (failures.refusals == 2 || (failures.refusals && left <= LAST)) {
        say("the secret is wrong; this worker ends", NULL);
        end_worker(WRONG_SECRET);
    } else if (outcome == ASKS_SECRET) {
        say("without the secret nothing can be done; this worker ends", NULL);
        end_worker(WRONG_SECRET);
    } else if (left <= LAST) {
        say("the manager was not reached within ", NUMBER((unsigned long)settings.limit / 1000),
            was_reached ? " s again, and has most likely ended" : " s", "; this worker ends", NULL);
        end_worker(LATER);
    } else {
        say(told.is_new ? "trying again for " : "still so; trying again for ", NUMBER((unsigned long)left / 1000), " s more", NULL);
    }
    told.is_new = 0;
}
