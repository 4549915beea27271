"""docs/refusals.md lists what is refused, as the code has it, and for each a test that shows it."""

import ast
from functools import cache

from tests.refusals import PAGE, ROOT, refusals, rows_of, table

UNSHOWN = (
    "permission denied, expected a readable file",  # tests may run as root, who may read everything
    "found status … …, expected 200",  # whatever else a Hub may answer
    "found status … with Content-Range …, expected 206",  # the S3 server of the tests gives ranges
)
"""How the messages begin that no test shows, each with the reason."""

PAGE_TEXT = PAGE.read_text("utf-8")


def test_the_page_lists_every_refusal_and_no_other() -> None:
    listed = rows_of(PAGE_TEXT)
    assert sorted(listed) == refusals(), "run `make refusals`"
    assert PAGE_TEXT.endswith(table(listed))


@cache
def functions_of(file: str) -> set[str]:
    tree = ast.parse((ROOT / file).read_text("utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_each_refusal_names_a_test_that_exists() -> None:
    for refusal, test in rows_of(PAGE_TEXT).items():
        if not test and refusal.message.startswith(UNSHOWN):
            continue
        file, _, name = test.partition("::")
        assert file, f"{refusal.module}: {refusal.message}: name a test that shows it in {PAGE.name}"
        assert name in functions_of(file), f"{test}: there is no such test; {PAGE.name} names it"


def test_an_error_that_a_function_makes_is_listed_by_what_the_function_is_called_with() -> None:
    messages = [refusal.message for refusal in refusals() if refusal.module.endswith("formats/gguf_header.py")]
    start = "found general.alignment …, expected a power of two; the file is cut off"
    assert any(message.startswith(start) for message in messages)
