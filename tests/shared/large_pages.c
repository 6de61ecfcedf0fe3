/* A kernel whose pages have PAGE bytes, as a program sees it: for LD_PRELOAD. What is mapped starts at such a page,
 * and what is given back is whole ones. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static size_t up(size_t size, size_t unit) { return (size + unit - 1) / unit * unit; }

long sysconf(int name)
{
    long (*next)(int) = (long (*)(int))dlsym(RTLD_NEXT, "sysconf");
    return name == _SC_PAGESIZE ? PAGE : next(name);
}

void *mmap(void *at, size_t size, int prot, int flags, int fd, off_t offset)
{
    char *room, *start;
    if (offset % PAGE) {
        errno = EINVAL;
        return MAP_FAILED;
    }
    if (at != NULL)
        return (void *)syscall(SYS_mmap, at, size, prot, flags, fd, offset);
    size = up(size, getauxval(AT_PAGESZ));
    room = (char *)syscall(SYS_mmap, NULL, size + PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0L);
    if (room == MAP_FAILED)
        return room;
    start = (char *)up((size_t)room, PAGE);
    if (start > room)
        syscall(SYS_munmap, room, start - room);
    syscall(SYS_munmap, start + size, room + PAGE - start);
    return (void *)syscall(SYS_mmap, start, size, prot, flags | MAP_FIXED, fd, offset);
}

void *mmap64(void *at, size_t size, int prot, int flags, int fd, off_t offset) __attribute__((alias("mmap")));

int madvise(void *at, size_t size, int advice)
{
    size_t unit = getauxval(AT_PAGESZ), i;
    if ((size_t)at % PAGE) {
        errno = EINVAL;
        return -1;
    }
    for (i = 0; i < up(size, PAGE); i += unit) /* one by one: other mappings may follow, or none */
        syscall(SYS_madvise, (char *)at + i, unit, advice);
    return 0;
}
