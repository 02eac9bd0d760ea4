/* A name service for the shim's tests, preloaded in the libc's place. What it does stands before
 * the name's first dot: "hangs", "dies", "none", "slow" (after 2 s 127.0.0.1), "both" (a mute
 * address, then 127.0.0.1).
 */
#include <arpa/inet.h>
#include <netdb.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static struct sockaddr_in places[2];
static struct addrinfo answers[2];

static void add(int index, const char *host)
{
    places[index].sin_family = AF_INET;
    inet_pton(AF_INET, host, &places[index].sin_addr);
    answers[index].ai_family = AF_INET;
    answers[index].ai_addr = (struct sockaddr *)&places[index];
    answers[index].ai_next = NULL;
}

int getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
                struct addrinfo **found)
{
    (void)service, (void)hints;
    if (!strncmp(host, "hangs.", 6))
        for (;;)
            pause();
    if (!strncmp(host, "dies.", 5))
        kill(getpid(), SIGKILL); /* not raise(): musl keeps the number of its parent's thread */
    if (!strncmp(host, "none.", 5))
        return EAI_NONAME;
    if (!strncmp(host, "slow.", 5)) {
        struct timespec two = {.tv_sec = 2};
        nanosleep(&two, NULL);
    }
    add(0, "127.0.0.1");
    if (!strncmp(host, "both.", 5)) {
        add(0, "127.0.0.2");
        add(1, "127.0.0.1");
        answers[0].ai_next = &answers[1];
    }
    *found = answers;
    return 0;
}

void freeaddrinfo(struct addrinfo *found)
{
    (void)found;
}
