/* Scans over the octets of a message head, and a comparison of names: 16 bytes at a step.
 *
 * A scan returns the offset of the first byte of s[at:end] that is not of its kind, or `end`. It reads inside s[0:end] only,
 * so `s` is the start of the memory, not of the part of interest: a tail shorter than a vector is read together with bytes before it.
 * SSE2 is part of every x86-64 and all that these kinds need (pcmpestri of SSE4.2 has three times the latency); NEON is part of
 * every AArch64; elsewhere one byte at a step. */
#ifndef PINGORA_SCAN_H
#define PINGORA_SCAN_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "ascii.h"

/* The kinds, octet by octet. */

static inline int pg_is_text(unsigned char c) /* HTAB, SP, VCHAR, obs-text: RFC 9110 section 5.5 */
{
    return (c >= 0x20 && c != 0x7f) || c == '\t';
}

static inline int pg_is_target(unsigned char c) /* VCHAR without '#', which starts a fragment and never travels */
{
    return c > 0x20 && c < 0x7f && c != '#';
}

static inline int pg_is_plain(unsigned char c) /* the tchars that nearly all names are made of: ALPHA, DIGIT, "-" */
{
    return (unsigned char)((c | 0x20) - 'a') < 26 || (unsigned char)(c - '0') < 10 || c == '-';
}

/* The same over a vector: a mask with PG_LANE_BITS bits per byte, set where the byte is not of the kind. */

#if defined(__SSE2__)
#include <emmintrin.h>
#define PG_VECTOR 1
#define PG_LANE_BITS 1
typedef uint32_t pg_mask;
typedef __m128i pg_v;

static inline pg_v pg_load(const char *p) { return _mm_loadu_si128((const __m128i *)p); }
static inline pg_v pg_all(char c) { return _mm_set1_epi8(c); }
static inline pg_v pg_eq(pg_v a, char c) { return _mm_cmpeq_epi8(a, pg_all(c)); }
static inline pg_v pg_or(pg_v a, pg_v b) { return _mm_or_si128(a, b); }
static inline pg_v pg_and_not(pg_v a, pg_v b) { return _mm_andnot_si128(b, a); }
static inline pg_v pg_sub(pg_v a, char c) { return _mm_sub_epi8(a, pg_all(c)); }
static inline pg_v pg_at_most(pg_v a, char c) { return _mm_cmpeq_epi8(_mm_min_epu8(a, pg_all(c)), a); }
static inline pg_mask pg_set(pg_v a) { return (pg_mask)_mm_movemask_epi8(a); }
static inline pg_mask pg_unset(pg_v a) { return pg_set(a) ^ 0xffffu; }
static inline unsigned pg_first(pg_mask m) { return (unsigned)__builtin_ctz(m); }

#elif defined(__aarch64__)
#include <arm_neon.h>
#define PG_VECTOR 1
#define PG_LANE_BITS 4
typedef uint64_t pg_mask;
typedef uint8x16_t pg_v;

static inline pg_v pg_load(const char *p) { return vld1q_u8((const uint8_t *)p); }
static inline pg_v pg_all(char c) { return vdupq_n_u8((uint8_t)c); }
static inline pg_v pg_eq(pg_v a, char c) { return vceqq_u8(a, pg_all(c)); }
static inline pg_v pg_or(pg_v a, pg_v b) { return vorrq_u8(a, b); }
static inline pg_v pg_and_not(pg_v a, pg_v b) { return vbicq_u8(a, b); }
static inline pg_v pg_sub(pg_v a, char c) { return vsubq_u8(a, pg_all(c)); }
static inline pg_v pg_at_most(pg_v a, char c) { return vcleq_u8(a, pg_all(c)); }
static inline pg_mask pg_set(pg_v a)
{
    return vget_lane_u64(vreinterpret_u64_u8(vshrn_n_u16(vreinterpretq_u16_u8(a), 4)), 0);
}
static inline pg_mask pg_unset(pg_v a) { return ~pg_set(a); }
static inline unsigned pg_first(pg_mask m) { return (unsigned)__builtin_ctzll(m) >> 2; }
#endif

#ifdef PG_VECTOR
static inline pg_mask pg_stops_text(pg_v v)
{
    return pg_set(pg_or(pg_and_not(pg_at_most(v, 0x1f), pg_eq(v, '\t')), pg_eq(v, 0x7f)));
}

static inline pg_mask pg_stops_target(pg_v v)
{
    return pg_unset(pg_and_not(pg_at_most(pg_sub(v, 0x21), 0x7e - 0x21), pg_eq(v, '#')));
}

static inline pg_mask pg_stops_plain(pg_v v)
{
    pg_v alpha = pg_at_most(pg_sub(pg_or(v, pg_all(0x20)), 'a'), 25);
    pg_v digit = pg_at_most(pg_sub(v, '0'), 9);
    return pg_unset(pg_or(pg_or(alpha, digit), pg_eq(v, '-')));
}

/* The tail reads the last 16 bytes and shifts out the lanes before `at`. */
#define PG_SCAN_VECTORS(stops)                                                                  \
    for (; end - at >= 16; at += 16) {                                                          \
        pg_mask mask = stops(pg_load(s + at));                                                  \
        if (mask)                                                                               \
            return at + pg_first(mask);                                                         \
    }                                                                                           \
    if (at < end && end >= 16) {                                                                \
        pg_mask mask = stops(pg_load(s + end - 16)) >> (PG_LANE_BITS * (16 - (end - at)));      \
        return mask ? at + pg_first(mask) : end;                                                \
    }
#else
#define PG_SCAN_VECTORS(stops)
#endif

static inline size_t pg_scan_text(const char *s, size_t at, size_t end)
{
    PG_SCAN_VECTORS(pg_stops_text)
    while (at < end && pg_is_text((unsigned char)s[at]))
        at++;
    return at;
}

static inline size_t pg_scan_target(const char *s, size_t at, size_t end)
{
    PG_SCAN_VECTORS(pg_stops_target)
    while (at < end && pg_is_target((unsigned char)s[at]))
        at++;
    return at;
}

static inline size_t pg_scan_plain(const char *s, size_t at, size_t end)
{
    PG_SCAN_VECTORS(pg_stops_plain)
    while (at < end && pg_is_plain((unsigned char)s[at]))
        at++;
    return at;
}

/* tchar, RFC 9110 section 5.6.2: vectors over the plain ones, the table for the rest. */
static inline size_t pg_scan_token(const char *s, size_t at, size_t end)
{
    for (;; at++) {
        at = pg_scan_plain(s, at, end);
        if (at == end || !PG_TOKEN[(unsigned char)s[at]])
            return at;
    }
}

#undef PG_SCAN_VECTORS

/* ASCII lower case of 8 bytes at once; octets from 0x80 on stay as they are. */
static inline uint64_t pg_lower8(uint64_t x)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);
    uint64_t low7 = x & (0x7f * ones);
    uint64_t from_a = low7 + (0x80 - 'A') * ones;
    uint64_t past_z = low7 + (0x7f - 'Z') * ones;
    return x | (((from_a ^ past_z) & ~x & (0x80 * ones)) >> 2);
}

static inline uint64_t pg_load8(const char *p)
{
    uint64_t x;
    memcpy(&x, p, 8);
    return x;
}

static inline uint64_t pg_load4(const char *p)
{
    uint32_t x;
    memcpy(&x, p, 4);
    return x;
}

/* True if `name` is `lower` (which is in lower case) but for ASCII case; both are `size` bytes. The last step overlaps the one before. */
static inline int pg_equals_lower(const char *name, const char *lower, size_t size)
{
    size_t i;
    if (size >= 8) {
        for (i = 0; i + 8 < size; i += 8)
            if (pg_lower8(pg_load8(name + i)) != pg_load8(lower + i))
                return 0;
        return pg_lower8(pg_load8(name + size - 8)) == pg_load8(lower + size - 8);
    }
    if (size >= 4)
        return pg_lower8(pg_load4(name) << 32 | pg_load4(name + size - 4)) == (pg_load4(lower) << 32 | pg_load4(lower + size - 4));
    for (i = 0; i < size; i++)
        if (PG_LOWER[(unsigned char)name[i]] != (unsigned char)lower[i])
            return 0;
    return 1;
}

/* The first 8 bytes of a name in lower case, all of one that has no more: names of one size, up to 8, are equal if these are. */
static inline uint64_t pg_name_word(const char *name, size_t size)
{
    uint64_t word = 0;
    if (size >= 8)
        return pg_lower8(pg_load8(name));
    if (size >= 4)
        return pg_lower8(pg_load4(name) << 32 | pg_load4(name + size - 4));
    while (size > 0)
        word = word << 8 | PG_LOWER[(unsigned char)name[--size]];
    return word;
}

#endif
