/* What the build checks: PG_DEBUG, and AddressSanitizer's marks on memory that we hand out ourselves. */
#ifndef PINGORA_SANITIZE_H
#define PINGORA_SANITIZE_H

#ifdef PINGORA_DEBUG
#define PG_DEBUG 1
#else
#define PG_DEBUG 0
#endif

#if defined(__SANITIZE_ADDRESS__)
#define PG_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define PG_ASAN 1
#endif
#endif

#ifdef PG_ASAN
#include <sanitizer/asan_interface.h>
#define PG_POISON(data, size) ASAN_POISON_MEMORY_REGION((data), (size))
#define PG_UNPOISON(data, size) ASAN_UNPOISON_MEMORY_REGION((data), (size))
#else
#define PG_ASAN 0
#define PG_POISON(data, size) ((void)(data), (void)(size))
#define PG_UNPOISON(data, size) ((void)(data), (void)(size))
#endif

#endif
