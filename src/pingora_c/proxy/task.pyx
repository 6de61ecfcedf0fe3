"""Starts the coroutines of hooks. Owns a spare task.

Python 3.12 has eager tasks built in (`Task(eager_start=True)`); on 3.11 EagerTask keeps the same contract:
asyncio.timeout, TaskGroup and everything else that asks for the current task work inside a hook, also before its first
suspension.
"""
cimport cython

import asyncio
import sys
from asyncio import tasks

from cpython.ref cimport PyObject, Py_DECREF, Py_REFCNT
from pingora_c.lib.context cimport PyContext_Enter, PyContext_Exit
from pingora_c.lib.generator cimport PyIter_Send

cdef bint has_eager_start = sys.version_info >= (3, 12)
cdef dict current_tasks = {} if has_eager_start else tasks._current_tasks      # by loop; what asyncio itself looks into


class EagerTask(asyncio.Future):
    """A Future that stands for the coroutine of a hook: the part of asyncio.Task that libraries rely on.

    anyio, for one, reads `_fut_waiter` and `_must_cancel`.
    """

    def __init__(self, loop, HookRun run not None):
        super().__init__(loop=loop)
        self._hook_loop = loop
        self._run = run
        self._fut_waiter = None      # this and _must_cancel are names of asyncio.Task that anyio reads
        self._cancels = 0

    @property
    def _must_cancel(self):
        return bool((<HookRun>self._run).must_cancel)

    @_must_cancel.setter
    def _must_cancel(self, value):
        (<HookRun>self._run).must_cancel = value

    def get_coro(self):
        return (<HookRun>self._run).coroutine

    def get_name(self):
        return f"hook-{id(self):x}"

    def set_name(self, value):
        """Names are fixed."""

    def get_context(self):
        return (<HookRun>self._run).context

    def cancelling(self):
        return self._cancels

    def uncancel(self):
        if self._cancels:
            self._cancels -= 1
            if self._cancels == 0:
                self._must_cancel = False
        return self._cancels

    def cancel(self, msg=None):
        if self.done():
            return False
        self._cancels += 1
        if self._fut_waiter is not None and self._fut_waiter.cancel(msg=msg):
            return True
        self._must_cancel = True
        self._cancel_message = msg
        return True

    def _step(self, error):
        # callbacks run outside the hook's context: it is entered here, and a context can be entered only once
        cdef HookRun run = self._run
        if self.done():
            return
        if self._must_cancel:
            if not isinstance(error, asyncio.CancelledError):
                error = asyncio.CancelledError()
            self._must_cancel = False
        self._fut_waiter = None
        outer = tasks.current_task(self._hook_loop)
        if outer is not None:
            tasks._leave_task(self._hook_loop, outer)
        tasks._enter_task(self._hook_loop, self)
        try:
            if error is None:
                awaited = run.context.run(run.coroutine.send, None)
            else:
                awaited = run.context.run(run.coroutine.throw, error)
        except StopIteration as stop:
            if self._must_cancel:
                self._must_cancel = False
                super().cancel()
            else:
                self.set_result(stop.value)
        except asyncio.CancelledError:
            super().cancel()
        except (KeyboardInterrupt, SystemExit) as problem:
            self.set_exception(problem)
            raise
        except BaseException as problem:
            self.set_exception(problem)
        else:
            self._wait_for(awaited)
        finally:
            tasks._leave_task(self._hook_loop, self)
            if outer is not None:
                tasks._enter_task(self._hook_loop, outer)

    def _wait_for(self, awaited):
        if awaited is None:
            self._hook_loop.call_soon(self._step, None)
        elif getattr(awaited, "_asyncio_future_blocking", None):
            awaited._asyncio_future_blocking = False
            awaited.add_done_callback(self._wake)
            self._fut_waiter = awaited
            if self._must_cancel and awaited.cancel():
                self._must_cancel = False
        else:
            problem = RuntimeError(f"a hook awaited {awaited!r}, which is no future of asyncio")
            self._hook_loop.call_soon(self._step, problem)

    def _wake(self, future):
        try:
            future.result()
        except BaseException as problem:
            self._step(problem)
        else:
            self._step(None)


cdef object first_step(object task, object coroutine, object loop, object context, bint* is_done):
    """Resume `coroutine` once as `task`; what it returned (`is_done`) or yielded."""
    cdef PyObject* result = NULL
    cdef object value
    cdef object outer = current_tasks.setdefault(loop, task)
    if outer is not task:
        current_tasks[loop] = task
    PyContext_Enter(context)
    try:
        is_done[0] = PyIter_Send(coroutine, None, &result) == 0
    finally:
        PyContext_Exit(context)
        if outer is task:
            current_tasks.pop(loop, None)
        else:
            current_tasks[loop] = outer
    value = <object>result
    Py_DECREF(value)
    return value


@cython.final
cdef class HookRun:
    """What a hook's task runs. Made by the core."""


@cython.final
cdef class TaskStarter:
    """Starts coroutines on one loop."""

    def __init__(self, loop):
        self.loop = loop

    cdef object start(self, object coroutine, object context, bint* is_done):
        cdef object task
        if not has_eager_start:
            return self.start_ours(coroutine, context, is_done)
        task = asyncio.Task(coroutine, loop=self.loop, context=context, eager_start=True)
        is_done[0] = task.done()
        return task.result() if is_done[0] else task

    cdef object start_ours(self, object coroutine, object context, bint* is_done):
        cdef object task = self.spare
        cdef HookRun run = self.spare_run
        cdef object value
        self.spare = self.spare_run = None
        if task is None:
            run = HookRun()
            task = EagerTask(self.loop, run)
        run.coroutine = coroutine
        run.context = context
        value = first_step(task, coroutine, self.loop, context, is_done)
        if not is_done[0]:
            tasks._register_task(task)
            task._wait_for(value)
            return task
        if run.must_cancel:
            raise asyncio.CancelledError
        if Py_REFCNT(task) == 1:
            run.coroutine = run.context = None
            self.spare = task
            self.spare_run = run
        return value
