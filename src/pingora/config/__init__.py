"""Configuration by a file: pingora.toml, read, checked, turned into a Server, and read again while it serves.

Imports nothing: who only reads the text, as the supervisor does, needs no model of it.
"""
