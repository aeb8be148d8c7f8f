"""Every error ecgforge raises on purpose.

A message says what was expected, what came and what to do; the command line prints it without a traceback.
"""


class EcgforgeError(Exception):
    """Base of all errors ecgforge raises on purpose."""


class ConfigError(EcgforgeError):
    """A setting, preset or option is unknown, of the wrong type or out of range."""


class DataError(EcgforgeError):
    """A record, file, folder or store cannot be used as it is."""


class LabelError(EcgforgeError):
    """An ECG statement is unknown, or two label vocabularies do not match."""


class CheckpointError(EcgforgeError):
    """A model or training checkpoint is missing, damaged or belongs to something else."""


class TrainingError(EcgforgeError):
    """Training cannot go on, for instance because the loss is no longer finite."""


class MissingExtraError(EcgforgeError):
    """An optional package is needed; the message names the extra to install."""
