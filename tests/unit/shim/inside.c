/* The shim's parser and hashes as functions that a test can call.
 *
 * Linked without shim.c, so the environment of the process that loads it stays as it is.
 */
#include "candidates.h"
#include "sha256.h"

#define EXPORT __attribute__((visibility("default")))

EXPORT void vsp_sha256(const void *data, unsigned long size, unsigned char out[DIGEST])
{
    struct sha256 hash;
    sha256_start(&hash);
    sha256_add(&hash, data, size);
    sha256_finish(&hash, out);
}

EXPORT void vsp_hmac_sha256(const unsigned char key[DIGEST], const void *data, unsigned long size,
                            unsigned char out[DIGEST])
{
    struct part part = {data, size};
    hmac_sha256(key, &part, 1, out);
}

/* Write the plan, a line "HOST PORT SOCK" for each candidate; or return -1 and what is wrong. */
EXPORT int vsp_parse_in(const char *sinful, const char *network, char *out, unsigned long size)
{
    static struct plan plan;
    const char *wrong = make_plan(&plan, sinful, network);
    unsigned long at = 0;

    if (wrong) {
        for (; wrong[at] && at < size - 1; at++)
            out[at] = wrong[at];
        out[at] = 0;
        return -1;
    }
    for (int i = 0; i < plan.count; i++) {
        const char *texts[] = {plan.list[i].host, " ", NUMBER(plan.list[i].port), " ",
                               plan.sock, "\n"};
        for (size_t j = 0; j < COUNT(texts); j++)
            for (const char *c = texts[j]; *c && at < size - 1; c++)
                out[at++] = *c;
    }
    out[at] = 0;
    return plan.count;
}

EXPORT int vsp_parse(const char *sinful, char *out, unsigned long size)
{
    return vsp_parse_in(sinful, NULL, out, size);
}
