#include "gate.h"

#include "settings.h"
#include "sha256.h"

enum {
    NONCE = 16, /* as in wire/gate.py */
    GREETING = 4 + NONCE,
    ANSWER = NONCE + DIGEST,
};

const char *meaning(enum outcome outcome)
{
    switch (outcome) {
    case NOBODY:
        return "the shared port closed the connection without a byte: no manager serves this "
               "sock id (any more), or it is too busy";
    case REFUSED:
        return "the manager closed the connection at its gate: it has another secret than this "
               "worker; submit new workers, or send them the present file";
    case IMPOSTOR:
        return "whoever serves this sock id does not hold the manager's secret; submit new "
               "workers, or send them the present file";
    case SILENT:
        return "the shared port took the connection, but no gate greeted us in time: the manager "
               "is too busy, or has no gate; then start workers without a secret file";
    case NO_GATE:
        return "what came is no gate's greeting: the manager has none, or another version of it; "
               "start workers without a secret file, or of the manager's version";
    case ASKS_SECRET:
        return "the manager asks for its secret, and this worker has none: set "
               "VINE_SHAREDPORT_SECRET_FILE to a copy of the manager's secret file";
    default:
        return "";
    }
}

static void prove(const char *label, const unsigned char nonces[2 * NONCE],
                  unsigned char mac[DIGEST])
{
    const char *sock = settings.plan.sock;
    const struct part parts[] = {{label, 6}, {sock, length(sock)}, {nonces, 2 * NONCE}};
    hmac_sha256(settings.secret, parts, COUNT(parts), mac);
}

enum outcome pass_gate(int fd, long deadline, long *error)
{
    unsigned char greeting[GREETING], answer[ANSWER], nonces[2 * NONCE];
    unsigned char proof[DIGEST], wanted[DIGEST], difference = 0;
    long got = receive(fd, greeting, sizeof greeting, deadline);

    if (got == 0 || got == -ECONNRESET || got == -EPIPE)
        return NOBODY;
    if (got == -ETIMEDOUT)
        return SILENT;
    *error = got < 0 ? -got : ECONNRESET;
    if (got > 0 && memcmp(greeting, "VSP1", (size_t)(got < 4 ? got : 4)))
        return NO_GATE;
    if (got < GREETING)
        return got == -EINTR ? INTERRUPTED : got < 0 ? UNREACHED : NOBODY;

    memcpy(nonces, greeting + 4, NONCE);
    if ((got = fill_randomly(nonces + NONCE, NONCE)) < 0) {
        *error = -got;
        return UNREACHED;
    }
    memcpy(answer, nonces + NONCE, NONCE);
    prove("client", nonces, answer + NONCE);
    got = transmit(fd, answer, sizeof answer);
    if (got == 0)
        got = receive(fd, proof, sizeof proof, deadline);
    if (got >= 0 && got < DIGEST) /* an orderly end; a reset is a manager that has died */
        return REFUSED;
    if (got < 0) {
        *error = -got;
        return got == -EINTR ? INTERRUPTED : UNREACHED;
    }
    prove("server", nonces, wanted);
    for (int i = 0; i < DIGEST; i++)
        difference |= (unsigned char)(proof[i] ^ wanted[i]);
    return difference ? IMPOSTOR : THROUGH;
}

enum outcome see_whether_it_stays(int fd, long round_trip)
{
    long most = 2 * round_trip + 50, got;
    char first;

    got = wait_for(fd, POLLIN, most < 1000 ? most : 1000);
    if (got == 0)
        return THROUGH;
    if (got == -EINTR)
        return INTERRUPTED;
    got = CALL(recvfrom, fd, &first, 1, MSG_PEEK, 0);
    /* A manager lets workers speak first: what comes now is a gate's greeting. */
    return got <= 0 ? NOBODY : first == 'V' ? ASKS_SECRET : THROUGH;
}
