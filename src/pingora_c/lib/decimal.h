/* Powers of ten, and which of them a number reaches. */
#ifndef PINGORA_DECIMAL_H
#define PINGORA_DECIMAL_H

#include <stdint.h>

static const uint32_t pg_tens[10] = {1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000, 1000000000};

/* The greatest i with pg_tens[i] <= n; n > 0. */
static inline uint32_t pg_power_of_ten(uint32_t n) {
    static const uint8_t by_zeros[32] = {9, 9, 9, 8, 8, 8, 7, 7, 7, 6, 6, 6, 6, 5, 5, 5,
                                         4, 4, 4, 3, 3, 3, 3, 2, 2, 2, 1, 1, 1, 0, 0, 0};
    uint32_t power = by_zeros[__builtin_clz(n)];
    return power - (n < pg_tens[power]);
}

#endif
