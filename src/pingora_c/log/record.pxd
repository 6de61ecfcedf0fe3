"""Lines of the standard library's log records, and the short way of a logging call into a LogWriter.

A line is `2026-11-24T19:40:37.123Z INFO gateway: message`. A call of `log.info(…)` that only our handler would see
makes no LogRecord: `direct_log` makes a `Logger._log` that writes the line at once, and takes the standard library's
way whenever anybody else could see the record: another handler, a filter, a formatter, a subclass of Logger, a record
factory, or a method of Logger that was replaced.
"""
