#include "sha256.h"

/* FIPS 180-4, 4.2.2: the fractions of the cube roots of the first 64 primes. */
static const uint32_t ROUND[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t rotate(uint32_t word, int bits)
{
    return word >> bits | word << (32 - bits);
}

/* 6.2.2: take one block into the state. */
static void sha256_block(struct sha256 *hash)
{
    uint32_t w[64], v[8];

    for (int t = 0; t < 16; t++)
        w[t] = (uint32_t)hash->block[4 * t] << 24 | (uint32_t)hash->block[4 * t + 1] << 16 |
               (uint32_t)hash->block[4 * t + 2] << 8 | hash->block[4 * t + 3];
    for (int t = 16; t < 64; t++) {
        uint32_t s0 = rotate(w[t - 15], 7) ^ rotate(w[t - 15], 18) ^ w[t - 15] >> 3;
        uint32_t s1 = rotate(w[t - 2], 17) ^ rotate(w[t - 2], 19) ^ w[t - 2] >> 10;
        w[t] = w[t - 16] + s0 + w[t - 7] + s1;
    }
    memcpy(v, hash->state, sizeof v);
    for (int t = 0; t < 64; t++) {
        uint32_t s1 = rotate(v[4], 6) ^ rotate(v[4], 11) ^ rotate(v[4], 25);
        uint32_t choice = (v[4] & v[5]) ^ (~v[4] & v[6]);
        uint32_t one = v[7] + s1 + choice + ROUND[t] + w[t];
        uint32_t s0 = rotate(v[0], 2) ^ rotate(v[0], 13) ^ rotate(v[0], 22);
        uint32_t majority = (v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]);
        for (int i = 7; i > 0; i--)
            v[i] = v[i - 1];
        v[4] += one;
        v[0] = one + s0 + majority;
    }
    for (int i = 0; i < 8; i++)
        hash->state[i] += v[i];
}

void sha256_start(struct sha256 *hash)
{
    /* 5.3.3: the fractions of the square roots of the first 8 primes. */
    static const uint32_t initial[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                        0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    memcpy(hash->state, initial, sizeof initial);
    hash->size = 0;
}

void sha256_add(struct sha256 *hash, const void *data, size_t size)
{
    const unsigned char *bytes = data;
    while (size--) {
        hash->block[hash->size++ % BLOCK] = *bytes++;
        if (hash->size % BLOCK == 0)
            sha256_block(hash);
    }
}

void sha256_finish(struct sha256 *hash, unsigned char digest[DIGEST])
{
    /* 5.1.1: a one bit, zeros, and the message's length in bits. */
    uint64_t bits = hash->size * 8;
    unsigned char tail[8];
    sha256_add(hash, "\x80", 1);
    while (hash->size % BLOCK != BLOCK - sizeof tail)
        sha256_add(hash, "", 1);
    for (int i = 0; i < 8; i++)
        tail[i] = (unsigned char)(bits >> (56 - 8 * i));
    sha256_add(hash, tail, sizeof tail);
    for (int i = 0; i < DIGEST; i++)
        digest[i] = (unsigned char)(hash->state[i / 4] >> (24 - 8 * (i % 4)));
}

void hmac_sha256(const unsigned char key[DIGEST], const struct part *parts, size_t count,
                 unsigned char mac[DIGEST])
{
    struct sha256 hash;
    unsigned char pad[BLOCK];

    for (size_t i = 0; i < BLOCK; i++)
        pad[i] = (i < DIGEST ? key[i] : 0) ^ 0x36;
    sha256_start(&hash);
    sha256_add(&hash, pad, BLOCK);
    for (size_t i = 0; i < count; i++)
        sha256_add(&hash, parts[i].data, parts[i].size);
    sha256_finish(&hash, mac);
    for (size_t i = 0; i < BLOCK; i++)
        pad[i] ^= 0x36 ^ 0x5c;
    sha256_start(&hash);
    sha256_add(&hash, pad, BLOCK);
    sha256_add(&hash, mac, DIGEST);
    sha256_finish(&hash, mac);
    wipe(pad, sizeof pad);
    wipe(&hash, sizeof hash);
}
