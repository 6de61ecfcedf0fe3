"""`python -m pingora` is the command line."""

from pingora.cli import main

main()
