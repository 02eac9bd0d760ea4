/* The settings: what the environment says, which neither worker nor tasks shall see. */
#ifndef VSP_SETTINGS_H
#define VSP_SETTINGS_H

#include "candidates.h"

enum { SECRET = 32 }; /* bytes; as in wire/gate.py */

struct settings {
    struct plan plan; /* empty: nothing to do for us */
    int has_secret;
    unsigned char secret[SECRET];
    long limit; /* milliseconds from the start of the first attempt that failed */
    long pid;   /* the worker's; a child that it forks has another */
    /* How a silent connection is probed, in seconds; idle 0: as the system has it. */
    struct {
        int idle, interval, count;
    } keepalive;
};
extern struct settings settings;

/* The variables, without VINE_SHAREDPORT_ before their names; NULL where one is not set. */
struct given {
    const char *address, *secret_file, *network, *limit, *keepalive;
    int is_check;
};

/* glibc may call us before it has set its own variable, but hands us the array; musl does not. */
char **environ_of_libc(char **given);

/* Take our entries out of a value of LD_PRELOAD, in place; whether any is left. */
int leave_preload(char *value);

/* Take our variables and our entry of LD_PRELOAD out of the environment. */
void leave_environment(char **variables, struct given *given);

/* Make the settings, or end the worker and say why. */
void read_settings(const struct given *given);

#endif
