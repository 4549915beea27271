"""What every test run reports and how patient it is."""

from hypothesis import HealthCheck, settings

# Here, because with xdist the process that reports loads no deeper conftest than this.
from tests.zoo.summary import pytest_terminal_summary as pytest_terminal_summary

# A machine that is busy with other tests is slow; that is no failure.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")
