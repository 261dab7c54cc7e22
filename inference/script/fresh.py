"""What else a fresh process would have: arguments, folder, environment, logging, warnings, signals, modes of PyTorch.

Taken once after the import of the script, put back around every request. Random state is in `chance`.
"""

import logging
import os
import signal
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from inference.script.chance import begin_afresh

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Fresh:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._environment = dict(os.environ)
        self._loggers = {logger: _logging(logger) for logger in _loggers()}
        self._warnings = list(warnings.filters)
        self._signals = {number: signal.getsignal(number) for number in SIGNALS}
        self._type = torch.get_default_dtype()

    @contextmanager
    def process(self, arguments: list[str], variables: Mapping[str, str] = {}) -> Iterator[None]:
        """As if the script were started with these arguments in its folder, and these variables besides."""
        streams, words, before = (sys.stdout, sys.stderr), sys.argv, Path.cwd()
        sys.argv = arguments
        os.chdir(self._folder)
        os.environ.update(variables)
        begin_afresh()
        try:
            with torch.autograd.grad_mode.set_grad_enabled(True):
                yield
        finally:
            sys.stdout, sys.stderr = streams
            sys.argv = words
            os.chdir(before)
            self._put_back()

    def _put_back(self) -> None:
        for name in os.environ.keys() - self._environment.keys():
            del os.environ[name]
        os.environ.update(self._environment)
        warnings.filters[:] = self._warnings  # type: ignore[index]
        for number, handler in self._signals.items():
            signal.signal(number, handler)
        torch.set_default_dtype(self._type)
        for logger in _loggers():
            if logger not in self._loggers:  # of a module that the request imported: its handlers are its own
                self._loggers[logger] = _logging(logger)
            handlers, level = self._loggers[logger]
            logger.handlers[:] = handlers
            logger.setLevel(level)


def _loggers() -> list[logging.Logger]:
    known = logging.Logger.manager.loggerDict.values()
    return [logging.getLogger(), *(one for one in known if isinstance(one, logging.Logger))]


def _logging(logger: logging.Logger) -> tuple[list[Any], int]:
    return list(logger.handlers), logger.level
