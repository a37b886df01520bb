"""The page: classify one radiograph or many, see where the evidence lies, and how much to trust the model."""

import atexit
import json
import shutil
import tempfile
import threading
import uuid
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from demo import answers, examples, words
from demo.answers import Served
from demo.doors import RateLimit
from trainer.errors import UserError
from trainer.inference import batch

_KINDS = [".png", ".jpg", ".jpeg", ".dcm", ".dicom", ".zip"]
_FIGURES = {
    "Beside its controls": "audit/controls.png",
    "Reliability": "evaluation/test/reliability.png",
}
_FORGOTTEN = 600  # Seconds after which an image that was looked at is dropped from memory.

THEME = gr.themes.Base(
    primary_hue="blue",
    neutral_hue="slate",
    font=["system-ui", "sans-serif"],
    font_mono=["ui-monospace", "monospace"],
).set(
    body_text_color_subdued="*neutral_600", body_text_color_subdued_dark="*neutral_300"
)  # Gradio's own miss WCAG AA.
CSS = """
.gradio-container { max-width: min(72rem, 100vw) !important; margin: 0 auto !important; }
.gradio-container .main, .gradio-container .main > .wrap, .gradio-container main { min-width: 0 !important; width: 100%;
  max-width: 100vw !important; }
.warning { background: #fff4e0; color: #3d2800; border-left: 5px solid #b45f06; padding: .6rem .9rem; margin: .3rem 0;
  font-weight: 600; }
.gradio-container .column, .gradio-container .tabitem, #table { min-width: 0 !important; max-width: 100%; }
#table { overflow-x: auto; }
@media (max-width: 700px) {
  .stacked { flex-direction: column !important; flex-wrap: nowrap !important; }
  .stacked > .column { display: contents !important; }
  .stacked > .column > * { width: 100% !important; flex: none !important; order: 4; }
  .stacked > .column > #upload { order: 1; }
  .stacked > .column > #verdict { order: 2; }
  .stacked > .column > #evidence { order: 3; }
}
body:not(.dark) button[role=tab][aria-selected=true] { color: #1d4ed8 !important; }
.card { border: 1px solid #94a3b8; border-left-width: 6px; border-radius: 6px; padding: .6rem 1rem; }
.card h3 { margin: .1rem 0 .4rem; font-size: 1.3rem; }
.card.answered { border-left-color: #0072b2; }
.card.unsure { border-left-color: #b45f06; }
.card.refused { border-left-color: #64748b; }
.card .row { display: grid; grid-template-columns: minmax(6rem, 1fr) 3fr 4rem; gap: .6rem; align-items: center;
  margin: .25rem 0; }
.card .track { background: #cbd5e1; height: .8rem; border-radius: 4px; }
.card .fill { background: #0072b2; height: .8rem; border-radius: 4px; }
"""
# Pasting an image does what dropping it does: its file goes to the visible upload.
PASTE = """() => document.addEventListener("paste", event => {
  const files = [...(event.clipboardData?.files ?? [])];
  const inputs = [...document.querySelectorAll("#upload input[type=file], #uploads input[type=file]")];
  const input = inputs.find(one => one.parentElement.offsetParent !== null);
  if (!files.length || !input) return;
  const carried = new DataTransfer();
  (input.multiple ? files : files.slice(0, 1)).forEach(file => carried.items.add(file));
  input.files = carried.files;
  input.dispatchEvent(new Event("change", {bubbles: true}));
  event.preventDefault();
})"""


def build(served: Served, limit: RateLimit, flag_dir: Path | None = None) -> gr.Blocks:
    """Builds the page of one run.

    Args:
      served: the run.
      limit: how often a caller may ask.
      flag_dir: where disagreements are kept; None for not at all.
    """
    title = f"{served.metrics.get('model', 'model')} on {served.metrics.get('dataset', {}).get('name', 'a data set')}"
    with gr.Blocks(title=title, analytics_enabled=False, delete_cache=(60, 300)) as page:
        gr.Markdown(f"# {title}\n{words.NOT_A_DEVICE}")
        with gr.Tab("Classify"):
            _classify(served, limit, flag_dir)
        with gr.Tab("Many files"):
            _many(served, limit)
        with gr.Tab("How much to trust it"):
            gr.HTML(words.warnings(served), visible=bool(served.warnings))
            gr.Markdown(words.trust(served))
            for name, place in _FIGURES.items():
                if (served.folder / place).exists():
                    gr.Image(
                        np.asarray(_picture(served.folder / place)),
                        label=name,
                        interactive=False,
                        buttons=["fullscreen"],
                    )
        _endpoints(served, limit)
    return page


def _classify(served: Served, limit: RateLimit, flag_dir: Path | None) -> None:
    seen = gr.State(None, time_to_live=_FORGOTTEN)
    gr.HTML(words.warnings(served), visible=bool(served.warnings))
    with gr.Row(elem_classes="stacked"):
        with gr.Column(scale=2, min_width=300):
            upload = gr.File(
                label="A frontal chest radiograph: PNG (8 or 16 bit), JPEG or DICOM",
                file_types=_KINDS[:-1],
                elem_id="upload",
            )
            gr.Examples(
                [[str(path)] for path in examples.drawn()],
                inputs=[upload],
                cache_examples=False,
                label="Synthetic examples, drawn by a program",
                examples_per_page=6,
            )
            prevalence = gr.Slider(
                0.1,
                80.0,
                value=20.0,
                step=0.1,
                label="Of 100 people examined, how many have it?",
                elem_id="prevalence",
            )
            meaning = gr.Markdown(words.meaning(served, 0.2), elem_id="meaning")
        with gr.Column(scale=3, min_width=320):
            verdict = gr.HTML("<p>The answer appears here.</p>", elem_id="verdict")
            slider = gr.ImageSlider(
                label="The radiograph, and the evidence for the class named (left, right)",
                format="png",
                interactive=False,
                elem_id="evidence",
                max_height=520,
            )
            opacity = gr.Slider(0.0, 1.0, value=0.6, step=0.05, label="Opacity of the map")
            with gr.Row():
                width = gr.Slider(
                    1, 255, value=255, step=1, label="Window (grey levels)", min_width=140
                )
                level = gr.Slider(0, 255, value=127, step=1, label="Level", min_width=140)

    def pictures(looked: answers.Seen | None, opacity: float, width: float, level: float):
        if looked is None:
            return None
        grey = answers.windowed(looked.square, width, level)
        plain = np.repeat(grey[..., None], 3, axis=2)
        return plain, plain if looked.evidence is None else answers.overlay(
            grey, looked.evidence, opacity
        )

    def show(path: str | None, opacity: float, width: float, level: float, request: gr.Request):
        if path is None:
            return None, "<p>The answer appears here.</p>", None
        try:
            limit.enter(_caller(request))
            looked = answers.see(served, Path(path))
        except UserError as error:
            return None, words.mistake(str(error)), None
        return looked, words.verdict(served, looked), pictures(looked, opacity, width, level)

    view = [opacity, width, level]
    upload.change(show, [upload, *view], [seen, verdict, slider], api_visibility="private")
    for control in view:
        control.release(
            pictures, [seen, *view], slider, api_visibility="private", show_progress="hidden"
        )
    prevalence.release(
        lambda value: words.meaning(served, value / 100.0),
        prevalence,
        meaning,
        api_visibility="private",
        show_progress="hidden",
    )
    if flag_dir:
        _disagreement(served, seen, flag_dir)


def _many(served: Served, limit: RateLimit) -> None:
    gr.HTML(words.warnings(served), visible=bool(served.warnings))
    header = batch.header(served.model)
    label = f"Several files, or a zip; at most {answers.MOST_FILES}"
    upload = gr.File(label=label, file_count="multiple", file_types=_KINDS, elem_id="uploads")
    table = gr.Dataframe(
        headers=header,
        interactive=False,
        label="Answers (click a heading to sort)",
        elem_id="table",
        wrap=True,
    )
    download = gr.File(label="The table as CSV", interactive=False, elem_id="csv")

    def show_all(paths: list[str] | None, request: gr.Request, progress=gr.Progress()):  # noqa: B008  Gradio finds it there.
        if not paths:
            return None, None
        try:
            found = answers.files_in([Path(path) for path in paths])
            limit.enter(_caller(request), len(found))
        except UserError as error:
            raise gr.Error(str(error), print_exception=False) from error
        rows = answers.rows(
            served, found, lambda share: progress(share, desc="reading and answering")
        )
        return rows, _csv(served, rows)

    upload.change(show_all, upload, [table, download], api_visibility="private")


def _endpoints(served: Served, limit: RateLimit) -> None:
    """The named endpoints for scripts: /classify, /classify_batch, /model; hidden on the page."""
    with gr.Row(visible=False):
        one, many, said = gr.File(), gr.File(file_count="multiple"), gr.JSON()
        first, second, third = gr.Button(), gr.Button(), gr.Button()

    def classify(file: str, request: gr.Request) -> dict[str, Any]:
        with _as_gradio_error():
            limit.enter(_caller(request))
            return answers.as_json(served, answers.see(served, Path(file)))

    def classify_batch(files: list[str], request: gr.Request) -> dict[str, Any]:
        with _as_gradio_error():
            found = answers.files_in([Path(path) for path in files or []])
            limit.enter(_caller(request), len(found))
            return {
                "header": batch.header(served.model),
                "rows": answers.rows(served, found),
                "warnings": served.warnings,
            }

    first.click(
        classify,
        one,
        said,
        api_name="classify",
        api_description="One radiograph → verdict, label, probabilities, reason.",
    )
    second.click(
        classify_batch,
        many,
        said,
        api_name="classify_batch",
        api_description="Files or zips → a row for each.",
    )
    third.click(
        lambda: answers.described(served),
        None,
        said,
        api_name="model",
        api_description="Classes, scores with intervals, controls, warnings.",
    )


def _disagreement(served: Served, seen: gr.State, flag_dir: Path) -> None:
    with gr.Accordion("I disagree with this answer", open=False):
        gr.Markdown(
            "The answer and your comment are kept by whoever runs this page; the image only if you "
            "tick it, as pixels without any tags. Send nothing that names a patient."
        )
        comment = gr.Textbox(label="What do you see?", max_length=2000)
        with_image = gr.Checkbox(label="Keep the image too")
        consent = gr.Checkbox(label="I may share this, and agree that it is kept")
        send, done = gr.Button("Send"), gr.Markdown()

    def keep(looked: answers.Seen | None, comment: str, with_image: bool, consent: bool) -> str:
        if looked is None:
            return "Classify an image first."
        if not consent:
            return "Nothing was kept: tick that you agree first."
        from PIL import Image

        name = uuid.uuid4().hex
        flag_dir.mkdir(parents=True, exist_ok=True)
        (flag_dir / f"{name}.json").write_text(
            json.dumps(answers.as_json(served, looked) | {"comment": comment}, indent=2)
        )
        if with_image:
            Image.fromarray(looked.square).save(flag_dir / f"{name}.png")
        return "Kept, thank you."

    send.click(keep, [seen, comment, with_image, consent], done, api_visibility="private")


def _csv(served: Served, rows: list[list[str]]) -> str:
    import csv

    folder = Path(
        tempfile.mkdtemp(prefix="answers")
    )  # Gradio serves a copy, which it deletes; this one is ours to delete.
    forget = threading.Timer(60.0, shutil.rmtree, [folder, True])
    forget.daemon = True
    forget.start()
    atexit.register(shutil.rmtree, folder, True)
    with open(folder / "predictions.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(batch.header(served.model))
        writer.writerows(rows)
    return str(folder / "predictions.csv")


def _caller(request: gr.Request | None) -> str:
    """The login, else the session: behind a share link every visitor has one address."""
    if request is None:
        return "script"
    return request.username or request.session_hash or "script"


class _as_gradio_error:
    """Turns a `UserError` into the error Gradio hands to the caller, without a traceback in the log."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind, error, trace) -> None:
        if isinstance(error, UserError):
            raise gr.Error(str(error), print_exception=False) from error


def _picture(path: Path):
    from PIL import Image

    return Image.open(path).convert("RGB")
