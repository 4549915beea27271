"""What every test run reports. Here, because with xdist the process that reports loads no deeper conftest than this."""

from tests.zoo.summary import pytest_terminal_summary as pytest_terminal_summary
