"""The terraform modules. Most of it is read from their files; what starts servers and other programs is run by ``make test-deploy``."""

from __future__ import annotations

import os

collect_ignore_glob = [] if "LEDGER_WATCHER_DEPLOY" in os.environ else ["test_deploy_*.py"]
