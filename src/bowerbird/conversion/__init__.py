"""Conversion: a table of trials to waveforms (`convert_trials`), one file or folder to another voice (`convert`)."""

from bowerbird.conversion.files import convert
from bowerbird.conversion.trials import CONVERSIONS, convert_trials
from bowerbird.conversion.waveforms import VERSION

__all__ = ["CONVERSIONS", "VERSION", "convert", "convert_trials"]
