/* Which addresses of the manager are worth a try, in order; see dialing/candidates.py. */
#ifndef VSP_CANDIDATES_H
#define VSP_CANDIDATES_H

#include "sinful.h"

enum { MAX_CANDIDATES = 32 };

struct plan {
    char sock[MAX_SOCK + 1]; /* the manager's, by whichever candidate */
    struct candidate list[MAX_CANDIDATES];
    int count;
};

/* Make the plan; what is wrong with the address, or NULL.
 *
 * network: the network that this machine is in, or NULL. An address of a private network leads
 * elsewhere from anywhere else.
 */
const char *make_plan(struct plan *plan, const char *text, const char *network);

#endif
