"""What the commands of `overread-train` catch and print; every other exception is a fault of the program.

TrainingError
    SourceError     a data folder does not look as its source describes it
    ManifestError   images and labels that nothing can be learned from or measured on
    RecipeError     no such recipe or setting, or data that it must not be trained on
    BackboneError   no such network, layer, or starting weights
    WorkerError     workers that are to train together and cannot
"""

from __future__ import annotations


class TrainingError(Exception):
    """Something that whoever gave the command can mend."""


class SourceError(TrainingError):
    """A data folder does not look as its source describes it."""


class ManifestError(TrainingError):
    """Images and labels that nothing can be learned from or measured on."""


class RecipeError(TrainingError):
    """No such recipe, a setting that it does not have, or data that it must not be trained on."""


class BackboneError(TrainingError):
    """No such network, layer, or starting weights."""


class WorkerError(TrainingError):
    """Workers that are to train together and cannot."""
