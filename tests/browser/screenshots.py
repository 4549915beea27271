"""Takes the pictures of docs/images from surveys made on the spot: ``make screenshots``.

SmolLM2 is surveyed as its package ships it, and as coarser quantisations leave it, which merge more of its rows.
"""

import io
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
import yaml
from gguf import GGMLQuantizationType, dequantize, quantize
from PIL import Image
from playwright.sync_api import Browser, Page
from safetensors.torch import load_file, save_file

from tests.browser.checkpoints import MINILM, SMOLLM2
from tests.browser.chromium import chromium
from tests.browser.jobs import run_job
from tests.browser.visits import VIEWS, View, faults_of, visiting

IMAGES: Final = Path(__file__).parents[2] / "docs" / "images"
EMBEDDING: Final = "model.embed_tokens.weight"
COLOURS: Final = 256
LIGHT, DARK = VIEWS[:2]


@dataclass(frozen=True)
class Picture:
    """One file of docs/images: what is opened, what is done there, and how much of it is taken."""

    name: str
    page: Path
    view: View
    height: int
    prepare: Callable[[Page], None] = lambda _: None


def main() -> None:
    """Survey, and write all pictures."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        for picture in pictures(surveys(Path(folder))):
            content = taken(browser, picture)
            (IMAGES / f"{picture.name}.png").write_bytes(content)
            print(f"docs/images/{picture.name}.png: {len(content) / 1e3:.0f} kB")  # noqa: T201 - a program


def requantised(folder: Path, kind: GGMLQuantizationType) -> Path:
    """SmolLM2's embedding after a quantisation, with its tokenizer and config."""
    folder /= f"{SMOLLM2.name}-{kind.name}"
    shutil.copytree(SMOLLM2, folder, ignore=shutil.ignore_patterns("*.safetensors", "*.md"))
    w = load_file(SMOLLM2 / "model.safetensors")[EMBEDDING].float().numpy()
    coarse = torch.tensor(dequantize(quantize(w, kind), kind)).to(torch.bfloat16)
    save_file({EMBEDDING: coarse}, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def surveys(folder: Path) -> Path:
    """An OUTPUT with the examples, and SmolLM2 after two coarser quantisations."""
    quantised = [requantised(folder, kind) for kind in (GGMLQuantizationType.Q5_0, GGMLQuantizationType.Q4_0)]
    entries = [
        {
            "model": str(SMOLLM2),
            "note": "its weights were dequantised from Q8_0, which merges rows that were nearly equal",
        },
        {"model": str(MINILM), "tensor": "embeddings.word_embeddings.weight"},
        *({"model": str(path), "note": f"its embedding was quantised as {path.name[-4:]}"} for path in quantised),
    ]
    (folder / "models.yaml").write_text(yaml.safe_dump({"models": entries}))
    run_job("--models-file", folder / "models.yaml", "--output", folder / "surveys")
    names = [f"local/{path.name}" for path in (SMOLLM2, quantised[-1])]
    comparison = run_job("compare", *names, "--format", "html", "--output", folder / "surveys", status=1)
    (folder / "surveys" / "compare.html").write_bytes(comparison)
    return folder / "surveys"


def pictures(output: Path) -> list[Picture]:
    (report,) = (output / "local" / SMOLLM2.name).glob("*/report.html")
    return [
        Picture("report", report, LIGHT, 1_700),
        Picture("report-dark", report, DARK, 1_700),
        Picture("cloud", report, DARK, 780, light_up),
        Picture("index", output / "index.html", LIGHT, 900),
        Picture("compare", output / "compare.html", LIGHT, 1_200),
    ]


def light_up(page: Page) -> None:
    """Search the cloud for tokens."""
    page.get_by_label("Light up tokens").fill("issue")
    page.evaluate(
        "document.querySelector('[data-picture=cloud]').scrollIntoView({ block: 'center', behavior: 'instant' })"
    )


def taken(browser: Browser, picture: Picture) -> bytes:
    """The picture as a PNG with a palette."""
    with visiting(browser, picture.page.as_uri(), picture.view) as visit:
        visit.page.set_viewport_size({"width": picture.view.width, "height": picture.height})
        visit.page.wait_for_timeout(3_000)  # all is drawn by then
        picture.prepare(visit.page)
        visit.page.wait_for_timeout(500)
        image = Image.open(io.BytesIO(visit.page.screenshot())).convert("RGB")
        assert faults_of(visit) == []
    written = io.BytesIO()
    image.quantize(COLOURS, kmeans=2).save(written, "PNG", optimize=True)
    return written.getvalue()


if __name__ == "__main__":
    main()
