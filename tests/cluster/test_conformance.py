"""What every backend promises, held to the Kubeflow backend on a real API server: the tests of tests/contract."""

from __future__ import annotations

import pytest
from contract.test_backend_conformance import *  # noqa: F403 (its tests run here over another ground)

del ground  # noqa: F821 (that of conftest.py serves)

pytestmark = pytest.mark.cluster
