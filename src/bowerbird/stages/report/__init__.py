"""Stage *report*: one static page with scores, players and figures of a run; `page.write_report` writes it.

``VERSION`` is raised when the same run gives other bytes.
"""

from __future__ import annotations

VERSION = 9
