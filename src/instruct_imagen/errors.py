"""The common base of every error that a user can mend."""

from __future__ import annotations


class UserError(ValueError):
    """Bad input; the message is one sentence that says what to mend. The command line prints it and exits with 2."""


class InstructionError(UserError):
    """An instruction, reference or picture that cannot be used; the message says what to mend."""
