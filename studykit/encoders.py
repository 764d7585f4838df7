"""The name that people's notebooks use for ``studykit.models.encoders``."""

import sys

from studykit.models import encoders

sys.modules[__name__] = encoders
