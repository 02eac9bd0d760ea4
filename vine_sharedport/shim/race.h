/* TCP to the first of several addresses that answers; see dialing/race.py and RFC 8305.
 *
 * One of them without an answer, behind a firewall say, must not hold up the others. So the next
 * one starts a moment after the one before, or as soon as that has failed.
 */
#ifndef VSP_RACE_H
#define VSP_RACE_H

#include "candidates.h"
#include "names.h"

enum {
    STAGGER = 250, /* milliseconds until the next starts; as in dialing/race.py */
    MAX_RUNNERS = 2 * MAX_CANDIDATES,
};

enum progress { WAITING, RESOLVING, CONNECTING, OUT };

/* One literal address, or one name, that is tried. */
struct runner {
    int index; /* of the candidate where it comes from */
    enum progress progress;
    struct address to; /* family 0: a name */
    uint16_t port;
    int fd;
    long started;
    struct question question;
};

struct race {
    const struct plan *plan;
    struct runner list[MAX_RUNNERS]; /* in the order in which they start */
    int count;
    long deadline, next_start;
    void (*failed)(int index, long error); /* called for each that leads nowhere */
};

/* Begin with the candidate of this index, then the others: literals before names. */
void start_race(struct race *race, const struct plan *plan, int first, long deadline);

/* Wait for the next connection that is established: 0, and *won with its descriptor, the
 * caller's. -ETIMEDOUT when none is left or the time is over; -EINTR.
 * Who is left behind by a winner that turns out to be of no use is tried again by the next call. */
long next_winner(struct race *race, struct runner **won);

/* How many are still worth a try. */
int how_many_left(const struct race *race);

/* Close every attempt. */
void end_race(struct race *race);

/* Open a TCP socket and begin to connect it; the descriptor or -errno. */
long begin_connection(const struct address *to, uint16_t port);

#endif
