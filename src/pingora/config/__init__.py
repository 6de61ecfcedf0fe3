"""Configuration by a file: pingora.toml, read, checked, turned into a Server, and read again while it serves."""

from pingora.config.build import ConfiguredServer, load_config
from pingora.config.model import Config
from pingora.config.problems import ConfigError
from pingora.config.reader import read_config
from pingora.config.reloader import Reloader

__all__ = ["Config", "ConfigError", "ConfiguredServer", "Reloader", "load_config", "read_config"]
