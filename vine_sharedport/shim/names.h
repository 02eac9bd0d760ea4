/* A name's addresses, within a time limit.
 *
 * getaddrinfo() takes none, and cannot be left: without a name service that answers it holds its
 * caller for a minute or more, signals included. So a child asks, which can be killed.
 */
#ifndef VSP_NAMES_H
#define VSP_NAMES_H

#include "kernel.h"

enum { MAX_ADDRESSES = 16 }; /* of one name; nobody has more that are worth a try */

struct address {
    uint16_t family;
    unsigned char ip[16];
};

/* The addresses that came, in the name service's order: families are to take turns. */
struct answer {
    int32_t count; /* 0: it has none */
    struct address list[MAX_ADDRESSES];
};

/* A question under way: readable when the answer is there. */
struct question {
    long pid; /* 0: none was needed, the answer is in the pipe */
    int fd;
};

/* Ask for a name's addresses; 0 or -errno. */
long ask(struct question *question, const char *host);

/* Take the answer and end the question. */
void take_answer(struct question *question, struct answer *answer);

/* End a question, answered or not; nothing of it is left. */
void end_question(struct question *question);

#endif
