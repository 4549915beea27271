"""What the text of a setting means, or why it is wrong.

Each function takes the variable's name for its message, and raises ConfigError. None reads the environment.
"""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from job.errors import ConfigError, without_credentials


def finite(variable: str, seconds: float) -> float:
    """A number of seconds that ends."""
    if not math.isfinite(seconds):
        raise ConfigError(f"{variable}: {seconds} was found, a number of seconds was expected; correct it")
    return seconds


def parse_token(variable: str, text: str) -> str | None:
    """The token; None where there is none. The message does not show it."""
    if not re.fullmatch("[!-~]*", text):
        raise ConfigError(f"{variable}: holds blanks or characters that no token has; set it anew")
    return text or None


def parse_output(variable: str, text: str) -> str:
    """A folder, or ``s3://bucket/prefix``."""
    is_address = re.match(r"\w+:/", text)
    if is_address and not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/.*)?", text):
        found = without_credentials(text)
        raise ConfigError(f"{variable}: {found!r} was found, a folder or s3://bucket/prefix was expected; correct it")
    if is_address and {".", ".."} & set(text.split("/")):
        raise ConfigError(
            f"{variable}: {text!r} has '.' or '..' between slashes, expected a prefix without; correct it"
        )
    try:
        return str(Path(text).expanduser()) if text.startswith("~") else text
    except RuntimeError as error:
        raise ConfigError(
            f"{variable}: found {text!r} for a user without a home folder, expected a path; write it whole, or set HOME"
        ) from error


def parse_names(allowed: Sequence[str], variable: str, text: str) -> frozenset[str]:
    """Some of the allowed names, separated by commas or blanks."""
    names = text.replace(",", " ").split()
    if not names or not set(names) <= set(allowed):
        raise ConfigError(
            f"{variable}: {text!r} was found, one or more of {', '.join(allowed)} were expected; correct it"
        )
    return frozenset(names)


def parse_run(variable: str, name: str) -> str | None:
    """A name that can be a folder's; None where there is none."""
    if name and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}", name):
        raise ConfigError(
            f"{variable}: {name!r} was found, letters, digits, '-', '_' and '.' were expected, since it names a folder "
            "below OUTPUT; choose another"
        )
    return name or None


def parse_endpoint(variable: str, url: str) -> str | None:
    """An address ``http(s)://host`` without a slash at its end; None where there is none."""
    if not url:
        return None
    try:
        parts = urlsplit(url)
        sound = (
            parts.scheme in ("http", "https")
            and parts.hostname
            and (parts.port is None or parts.port)
            and " " not in url
        )
    except ValueError:
        sound = False
    if not sound:
        # What stands before an @, or where a port is expected, may be a password, however it is written.
        found = re.sub(r"(//[^:/]*):(?!\d+(/|$)).*", r"\1:…", url.rpartition("@")[2])
        raise ConfigError(f"{variable}: {found!r} was found, http(s)://host was expected; correct it")
    return url.rstrip("/")
