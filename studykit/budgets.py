"""The name that people's notebooks use for ``studykit.training.budgets``."""

import sys

from studykit.training import budgets

sys.modules[__name__] = budgets
