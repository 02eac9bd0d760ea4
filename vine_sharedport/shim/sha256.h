/* SHA-256 (FIPS 180-4) and HMAC-SHA256 (FIPS 198-1), for messages that are in memory. */
#ifndef VSP_SHA256_H
#define VSP_SHA256_H

#include "kernel.h"

enum { DIGEST = 32, BLOCK = 64 };

struct sha256 {
    uint32_t state[8];
    uint64_t size; /* bytes so far */
    unsigned char block[BLOCK];
};

struct part {
    const void *data;
    size_t size;
};

void sha256_start(struct sha256 *hash);
void sha256_add(struct sha256 *hash, const void *data, size_t size);
void sha256_finish(struct sha256 *hash, unsigned char digest[DIGEST]);

/* HMAC under a key of 32 bytes, over the parts one after the other. */
void hmac_sha256(const unsigned char key[DIGEST], const struct part *parts, size_t count,
                 unsigned char mac[DIGEST]);

#endif
