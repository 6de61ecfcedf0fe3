"""Coroutines of hooks: the first step is run by whoever starts one, the others by the loop.

During every step its task is `asyncio.current_task()`, the same object from the first step on. Most hooks end in their
first step; the task of one that did, and of which nobody kept a reference, serves the next.
"""
cimport cython


# What a task of ours runs: fields here, since starting one writes them all.
@cython.final
cdef class HookRun:
    cdef object coroutine
    cdef object context
    cdef bint must_cancel      # with the next step


@cython.final
cdef class TaskStarter:
    cdef object loop
    cdef object spare      # a task that ended in its first step, or None
    cdef HookRun spare_run     # the one of `spare`

    # Run `coroutine` in `context` until it ends or waits for something. Ended: its result, with `is_done` set; what it
    # raised is raised. Waiting: its task.
    cdef object start(self, object coroutine, object context, bint* is_done)
    cdef object start_ours(self, object coroutine, object context, bint* is_done)
