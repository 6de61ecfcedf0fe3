"""Logging calls that make no LogRecord. Owns the routes of the loggers that were used."""
cimport cython

import logging

from cpython.object cimport PyObject
from pingora_c.lib.dict cimport PyDict_GetItemWithError
from pingora_c.lib.type_slots cimport PyTypeObject
from pingora_c.log.record cimport log_at_once
from pingora_c.log.writer cimport LogWriter

cdef enum:
    ROUTES_MAX = 1000      # more loggers than that are made anew all the time

cdef dict logging_globals = logging.__dict__      # a module's own look-up of attributes costs five times as much
cdef object Logger = logging.Logger
cdef object RootLogger = logging.RootLogger
cdef dict LEVELS = {name: getattr(logging, name.upper()) for name in ("debug", "info", "warning", "error", "critical")}
cdef tuple LEFT_OUT = ("isEnabledFor", "makeRecord", "handle", "callHandlers")


cdef inline object found(dict attributes, str name):
    """An attribute, None where there is none."""
    cdef PyObject* value = PyDict_GetItemWithError(attributes, name)
    return None if value == NULL else <object>value


@cython.final
cdef class Route:
    """The loggers that a record meets."""


cdef Route new_route(object logger):
    cdef Route route = Route()
    route.name = logger.name
    route.loggers = []
    route.attributes = []
    while logger is not None:
        route.loggers.append(logger)
        route.attributes.append(logger.__dict__)
        logger = logger.parent
    return route


cdef bint is_free(Route route, object handler) except -1:
    """Whether `handler`, at the root, is all that a record of the route's first logger meets."""
    cdef dict attributes = <dict>route.attributes[0]
    cdef Py_ssize_t i, last = len(route.loggers) - 1
    if found(attributes, "filters"):
        return False
    for i in range(last):
        attributes = <dict>route.attributes[i]
        if found(attributes, "parent") is not route.loggers[i + 1]:
            route.is_stale = True
        if found(attributes, "handlers") or found(attributes, "propagate") is not True or route.is_stale:
            return False
    attributes = <dict>route.attributes[last]
    handlers = found(attributes, "handlers")
    return (type(handlers) is list and len(<list>handlers) == 1 and (<list>handlers)[0] is handler
            and found(attributes, "parent") is None)


@cython.final
cdef class ShortWay:
    """Writes what only `handler`, which is at the root logger, would see to `writer`.

    The methods of Logger and the record factory that are there now are those that may be left out.
    """

    def __init__(self, LogWriter writer not None, handler not None):
        self.writer = writer
        self.handler = handler
        self.of_handler = handler.__dict__
        self.routes = {}
        self.methods = {name: level_method(self, name, level) for name, level in LEVELS.items()}
        self.methods["_log"] = log_method(self)
        self.usual = {name: getattr(Logger, name) for name in (*self.methods, *LEFT_OUT)}
        self.factory = logging.getLogRecordFactory()

    def install(self):
        """Have every Logger take the short way."""
        for name, method in self.methods.items():
            setattr(Logger, name, method)

    def remove(self):
        """Give Logger back the methods that it had before."""
        for name in self.methods:
            setattr(Logger, name, self.usual[name])

    cdef bint is_untouched(self) except -1:
        if (<PyTypeObject*>Logger).tp_version_tag != self.version:
            self.version = 0
            if (getattr(Logger, "_log") is self.methods["_log"]
                    and all([getattr(Logger, name) is self.usual[name] for name in LEFT_OUT])):
                self.version = (<PyTypeObject*>Logger).tp_version_tag
        return self.version != 0

    cdef Route route_of(self, object logger):
        cdef PyObject* kept = PyDict_GetItemWithError(self.routes, logger)
        if kept != NULL:
            return <Route>kept
        if len(self.routes) >= ROUTES_MAX:
            self.routes.clear()
        route = self.routes[logger] = new_route(logger)
        return route

    cdef Decision write(self, object logger, object level, object message, object args) except DECISION_FAILED:
        cdef Route route
        cdef PyObject* is_enabled
        if type(logger) is not Logger and type(logger) is not RootLogger:
            return USUAL
        if not self.is_untouched() or logging_globals["_logRecordFactory"] is not self.factory:
            return USUAL
        route = self.route_of(logger)
        attributes = <dict>route.attributes[0]
        if found(attributes, "disabled") is not False:
            return USUAL
        is_enabled = PyDict_GetItemWithError(found(attributes, "_cache"), level)
        if is_enabled == NULL or <object>is_enabled is not True:
            return USUAL if logger.isEnabledFor(level) else DISABLED
        if not is_free(route, self.handler):
            if route.is_stale:
                del self.routes[logger]
            return USUAL
        attributes = self.of_handler
        if (found(attributes, "filters") or found(attributes, "formatter") is not None
                or level < found(attributes, "level")):
            return USUAL
        log_at_once(self.writer, route.name, level, message, args)
        return WRITTEN


cdef object level_method(ShortWay way, str name, object level):
    def method(self, msg, *args, **kwargs):
        if kwargs or way.write(self, level, msg, args) == USUAL:
            way.usual[name](self, msg, *args, **kwargs)

    method.__name__ = name
    method.__qualname__ = f"Logger.{name}"
    method.__doc__ = getattr(Logger, name).__doc__
    return method


cdef object log_method(ShortWay way):
    def _log(self, level, msg, args, exc_info=None, extra=None, stack_info=False, stacklevel=1):
        if exc_info or extra or stack_info or way.write(self, level, msg, args) != WRITTEN:
            way.usual["_log"](self, level, msg, args, exc_info, extra, stack_info, stacklevel)

    return _log
