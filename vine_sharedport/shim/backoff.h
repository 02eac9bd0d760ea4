/* What follows a failed attempt: a pause, or the worker's end; see dialing/backoff.py.
 *
 * TCP to a shared port always succeeds, so the worker's own back-off never starts.
 */
#ifndef VSP_BACKOFF_H
#define VSP_BACKOFF_H

#include "gate.h"

extern int ending; /* the status with which the worker shall end; 0: its own */

/* When the attempt that begins now has to be over. */
long next_deadline(long started);

/* Let the pause after a failure pass, less what has passed already; 0 or -EINTR. */
long hold_back(void);

/* Take note of how an attempt went; after a failure that is the last one, end the worker. */
void succeeded(void);
void failed(enum outcome outcome, long started);

#endif
