/* The manager's address: what HTCondor's text says.
 *
 * Reads what wire/sinful.py reads, or less; a test compares the two. The text comes from a
 * job's environment, so it is taken for hostile: bounded, and refused rather than guessed at.
 */
#ifndef VSP_SINFUL_H
#define VSP_SINFUL_H

#include "kernel.h"

enum {
    MAX_SINFUL = 16 * 1024, /* as in wire/sinful.py */
    MAX_SOCK = 41,          /* as in wire/handoff.py: the daemon refuses 42 */
    MAX_HOST = 253,         /* of a name in the DNS */
};

struct candidate {
    char host[MAX_HOST + 1];
    uint16_t port;
    sa_family_t family; /* AF_INET, AF_INET6; 0: a name to be resolved */
    unsigned char ip[16];
};

struct sinful {
    struct candidate host;
    int has_port;
    char sock[MAX_SINFUL + 1], addrs[MAX_SINFUL + 1], private[MAX_SINFUL + 1];
    char network[MAX_SINFUL + 1], alias[MAX_SINFUL + 1];
    int has_private;
};

/* A decimal number of at most so many digits and no more than the limit, or -1. */
long read_number(const char *text, size_t size, size_t digits, long limit);

/* Take the text as an IP address, or as that or a name; 0 if it is none. */
int read_literal(struct candidate *it, const char *text, size_t size);
int read_host_name(struct candidate *it, const char *text, size_t size);

/* Call for each item of a list; 0 if one of them is refused. */
int for_each(const char *text, const char *separators,
             int (*take)(void *, const char *, size_t), void *context);

/* Split <host:port?name=value&...>; what is wrong with it, or NULL. */
const char *read_sinful(struct sinful *address, const char *text);

/* What is wrong with a manager's sock id, or NULL. */
const char *check_sock(const char *sock);

#endif
