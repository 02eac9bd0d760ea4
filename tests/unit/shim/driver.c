/* The shim's parser and hashes under the sanitizers, which need a libc and a main().
 *
 * Reads records "SIZE\n" and so many bytes from standard input; answers each with the plan of
 * the address or with "-" and what is wrong with it, and ".\n".
 */
#include <stdio.h>
#include <stdlib.h>

#include "settings.h"
#include "sha256.h"

/* Of inside.c. */
int vsp_parse(const char *sinful, char *out, unsigned long size);
void vsp_sha256(const void *data, unsigned long size, unsigned char out[DIGEST]);
void vsp_hmac_sha256(const unsigned char key[DIGEST], const void *data, unsigned long size,
                     unsigned char out[DIGEST]);

int main(void)
{
    unsigned long size;
    while (scanf("%lu", &size) == 1) {
        char out[32768];
        unsigned char digest[DIGEST];
        char *text = malloc(size + 1); /* of exactly that size: one byte beyond is reported */
        if (!text || getchar() != '\n' || fread(text, 1, size, stdin) != size)
            return 2;
        text[size] = 0;
        printf("%s%s.\n", vsp_parse(text, out, sizeof out) < 0 ? "-" : "", out);
        vsp_sha256(text, size, digest);
        vsp_hmac_sha256(digest, text, size, digest);
        for (char *from = text; *from; from++) /* every tail is a value of LD_PRELOAD, too */
            if (from == text || from[-1] == ':')
                leave_preload(from);
        free(text);
    }
    return 0;
}
