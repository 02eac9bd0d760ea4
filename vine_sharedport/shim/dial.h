/* Dialing: from a candidate to a connection that the manager has taken; see dialing/dial.py. */
#ifndef VSP_DIAL_H
#define VSP_DIAL_H

#include "candidates.h"
#include "gate.h"

/* The worker's own socket, whose settings a connection takes over. */
extern int workers_socket;

/* What was told of each candidate since the last success, and whether the last was new. */
struct told {
    long of[MAX_CANDIDATES];
    int is_new;
};
extern struct told told;

/* Try every candidate once; on THROUGH the connection is the caller's. */
enum outcome attempt(int *through, long deadline);

#endif
