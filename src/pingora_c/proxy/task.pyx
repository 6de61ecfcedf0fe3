"""Drives a coroutine of a hook from its first step on as `asyncio.current_task()`.

Python 3.12 has this built in (`Task(eager_start=True)`); on 3.11 EagerTask keeps the same contract: asyncio.timeout,
TaskGroup and
everything else that asks for the current task work inside a hook, also before its first suspension.
"""
import asyncio
import sys
from asyncio import tasks


class EagerTask(asyncio.Future):
    """A Future that runs `coro` in `context`, its first step at once. The part of asyncio.Task that libraries rely
    on.
    """

    def __init__(self, coro, loop, context):
        super().__init__(loop=loop)
        self._hook_loop = loop
        self._coro = coro
        self._hook_context = context
        self._waits_for = None
        self._must_cancel = False
        self._cancels = 0
        tasks._register_task(self)
        self._step(None)

    def get_coro(self):
        return self._coro

    def get_name(self):
        return f"hook-{id(self):x}"

    def set_name(self, value):
        """Names are fixed."""

    def get_context(self):
        return self._hook_context

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
        if self._waits_for is not None and self._waits_for.cancel(msg=msg):
            return True
        self._must_cancel = True
        self._cancel_message = msg
        return True

    def _step(self, error):
        # callbacks run outside the hook's context: it is entered here, and a context can be entered only once
        if self.done():
            return
        if self._must_cancel:
            if not isinstance(error, asyncio.CancelledError):
                error = asyncio.CancelledError()
            self._must_cancel = False
        self._waits_for = None
        outer = tasks.current_task(self._hook_loop)
        if outer is not None:
            tasks._leave_task(self._hook_loop, outer)
        tasks._enter_task(self._hook_loop, self)
        try:
            if error is None:
                awaited = self._hook_context.run(self._coro.send, None)
            else:
                awaited = self._hook_context.run(self._coro.throw, error)
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
            self._waits_for = awaited
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


if sys.version_info >= (3, 12):
    def start_task(coro, loop, context):
        """Start `coro` at once as a task in `context`; the task may be done when this returns."""
        return asyncio.Task(coro, loop=loop, context=context, eager_start=True)
else:
    def start_task(coro, loop, context):
        """Start `coro` at once as a task in `context`; the task may be done when this returns."""
        return EagerTask(coro, loop, context)
