"""Stage *evaluation*: scores of the conversions, their summary with intervals, and comparisons of experiments.

``VERSION`` is raised when the same conversions give other numbers or other columns.
"""

VERSION = 5
