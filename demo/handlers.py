"""Event handlers of the page and its API, between Gradio's values and `demo.serving`.

handlers = Handlers(served, RateLimit())
button.click(handlers.classify, upload, output, api_name="classify")
"""

import contextlib
import dataclasses
import json
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from demo import auth, drawing, serving, text
from trainer.errors import UserError
from trainer.inference import batch, overlay

# What the images show.
WHOLE, OUTLINED, CUT = DISPLAYS = ("Whole radiograph", "Lungs outlined", "Cut at the lungs")

NO_VERDICT = "<p>The answer appears here.</p>"


def slider_images(
    result: serving.Result | None,
    finding: str | None,
    display: str,
    opacity: float,
    width: float,
    level: float,
) -> tuple[np.ndarray, np.ndarray] | None:
    """Draws the radiograph without and with its evidence, each [height, width, 3] uint8.

    Args:
      result: of the last upload; None before it.
      finding: whose map is drawn; the first shown where it has none.
      display: of `DISPLAYS`; where no lungs were found, the whole radiograph.
      opacity: of the map, in 0..1.
      width: of the window, in grey levels.
      level: of the window, in grey levels.
    """
    if result is None:
        return None
    grey = drawing.apply_window(result.film, width, level)  # [height, width]
    plain = evidence = np.repeat(grey[..., None], 3, axis=2)  # [height, width, 3]
    on_film = result.evidence_on_film(finding)
    if on_film is not None:
        evidence = overlay.overlay(grey, on_film, opacity, result.full)
    if result.lungs is not None and display != WHOLE:
        change = drawing.outline if display == OUTLINED else drawing.cut
        plain, evidence = (change(picture, result.lungs) for picture in (plain, evidence))
    return plain, evidence


@dataclasses.dataclass(frozen=True)
class Handlers:
    """Event handlers of one page; Gradio finds a `gr.Request` by its annotation.

    Attributes:
      served: the run.
      limit: of calls by one caller.
      flag_dir: folder of disagreements; None to store none.
    """

    served: serving.Served
    limit: auth.RateLimit
    flag_dir: Path | None = None

    def show(
        self,
        path: str | None,
        display: str,
        opacity: float,
        width: float,
        level: float,
        request: gr.Request,
    ) -> tuple[serving.Result | None, str, str | None, tuple[np.ndarray, np.ndarray] | None]:
        """Predicts for one upload: result, verdict card, the finding shown, and images."""
        if path is None:
            return None, NO_VERDICT, None, None
        try:
            self.limit.enter(_caller(request))
            result = serving.predict(self.served, Path(path))
        except UserError as error:
            return None, text.error_card(str(error)), None, None
        shown = result.first_shown
        return (
            result,
            text.verdict_card(self.served, result),
            shown if self.served.model.multi_label else None,
            slider_images(result, shown, display, opacity, width, level),
        )

    def show_all(
        self,
        paths: list[str] | None,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008  Gradio recognises the default.
    ) -> tuple[list[list[str]] | None, str | None]:
        """Predicts for several files: rows and the path of a CSV file."""
        if not paths:
            return None, None
        rows = self._predict_rows(
            paths, request, lambda share: progress(share, desc="reading and answering")
        )
        folder = tempfile.TemporaryDirectory(prefix="predictions", ignore_cleanup_errors=True)
        # Deleted after a minute or at exit; Gradio serves a copy, which it deletes itself.
        deletion = threading.Timer(60.0, folder.cleanup)
        deletion.daemon = True
        deletion.start()
        path = Path(folder.name) / "predictions.csv"
        with open(path, "w", newline="", encoding="utf-8") as file:
            batch.write_csv(self.served.model, rows, file)
        return [list(row.values()) for row in rows], str(path)

    def classify(self, file: str, request: gr.Request) -> dict[str, Any]:
        """Predicts for one file of an API call."""
        with _gradio_errors():
            self.limit.enter(_caller(request))
            return serving.as_json(self.served, serving.predict(self.served, Path(file)))

    def classify_batch(self, files: list[str], request: gr.Request) -> dict[str, Any]:
        """Predicts for the files of an API call."""
        rows = self._predict_rows(files or [], request)
        return {
            "header": batch.columns(self.served.model),
            "rows": [list(row.values()) for row in rows],
            "warnings": self.served.warnings,
        }

    def keep(
        self, result: serving.Result | None, comment: str, with_image: bool, consent: bool
    ) -> str:
        """Stores a disagreement in `flag_dir` and returns the reply."""
        if result is None:
            return "Classify an image first."
        if not consent:
            return "Nothing was kept: tick that you agree first."
        assert self.flag_dir is not None  # The form is only there with a folder.
        self.flag_dir.mkdir(parents=True, exist_ok=True)
        # A random name: the upload's own may hold a patient's.
        path = self.flag_dir / uuid.uuid4().hex
        content = serving.as_json(self.served, result) | {"comment": comment}
        path.with_suffix(".json").write_text(json.dumps(content, indent=2), encoding="utf-8")
        if with_image:
            Image.fromarray(result.film).save(path.with_suffix(".png"))
        return "Kept, thank you."

    def _predict_rows(
        self,
        paths: list[str],
        request: gr.Request,
        progress: Callable[[float], object] = lambda _: None,
    ) -> list[dict[str, str]]:
        with _gradio_errors():
            sources = serving.list_upload([Path(path) for path in paths])
            # Each file counts as a call.
            self.limit.enter(_caller(request), len(sources))
            return serving.predict_rows(self.served, sources, progress)


def _caller(request: gr.Request | None) -> str:
    # Behind a share link every visitor has one address, so the session counts.
    return (request and (request.username or request.session_hash)) or "script"


@contextlib.contextmanager
def _gradio_errors() -> Iterator[None]:
    # Turns a `UserError` into Gradio's error, without a traceback in the log.
    try:
        yield
    except UserError as error:
        raise gr.Error(str(error), print_exception=False) from error
