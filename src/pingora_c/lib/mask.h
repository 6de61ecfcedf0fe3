/* The masking of WebSocket payload (RFC 6455 section 5.3): 16 octets at a step, by the compiler's own vectors. */
#ifndef PINGORA_MASK_H
#define PINGORA_MASK_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef uint64_t pg_mask_vector __attribute__((vector_size(16)));

/* out[i] = in[i] ^ key[(phase + i) % 4]; `out` is `in` or does not overlap it. */
static inline void pg_mask_bytes(char *out, const char *in, size_t size, const uint8_t *key, unsigned phase)
{
    uint8_t turned[16];
    pg_mask_vector keys, v;
    uint64_t word, word_key;
    size_t i;

    for (i = 0; i < sizeof(turned); i++)
        turned[i] = key[(phase + i) & 3];
    memcpy(&keys, turned, sizeof(keys));
    for (i = 0; i + 16 <= size; i += 16) {
        memcpy(&v, in + i, 16);
        v ^= keys;
        memcpy(out + i, &v, 16);
    }
    if (i + 8 <= size) {
        memcpy(&word, in + i, 8);
        memcpy(&word_key, turned, 8);
        word ^= word_key;
        memcpy(out + i, &word, 8);
        i += 8;
    }
    for (; i < size; i++)
        out[i] = (char)((uint8_t)in[i] ^ turned[i & 3]);
}

#endif
