"""Layout of the page: classify one radiograph or many, view the evidence, judge the model.

page.build(served, RateLimit(), examples_folder).launch()
"""

from pathlib import Path

import gradio as gr
import numpy as np
from PIL import Image

from demo import auth, examples, handlers, serving, text
from trainer.data import radiograph
from trainer.inference import batch

_COLUMN_WIDTHS = {"filename": 160, "verdict": 100, "reason": 380}  # pixels
_FIGURES = {
    "Beside its controls": "audit/controls.png",
    "Reliability": "evaluation/test/reliability.png",
}


def build(
    served: serving.Served,
    limit: auth.RateLimit,
    examples_folder: Path,
    flag_dir: Path | None = None,
) -> gr.Blocks:
    """Builds the page of one run.

    Args:
      served: the run.
      limit: of calls by one caller.
      examples_folder: for the examples, which are drawn into it.
      flag_dir: folder of disagreements; None to store none.
    """
    dataset = served.metrics.get("dataset", {}).get("name", "a data set")
    source = f"{served.metrics.get('model', 'A model')}, trained on {dataset}."
    events = handlers.Handlers(served, limit, flag_dir)
    # Every minute Gradio deletes uploads older than five.
    with gr.Blocks(title=served.title, analytics_enabled=False, delete_cache=(60, 300)) as page:
        gr.Markdown(f"# {text.escape(served.title)}\n{text.escape(source)} {text.NOT_A_DEVICE}")
        with gr.Tab("Classify"):
            _classify_tab(events, examples_folder)
        with gr.Tab("Many files"):
            _batch_tab(events)
        with gr.Tab("How much to trust it"):
            _warnings(served)
            gr.Markdown(text.trust(served))
            for name, path in _FIGURES.items():
                if (served.folder / path).exists():
                    gr.Image(
                        np.asarray(Image.open(served.folder / path).convert("RGB")),
                        label=name,
                        interactive=False,
                        buttons=["fullscreen"],
                    )
        _endpoints(events)
    return page


def _classify_tab(events: handlers.Handlers, examples_folder: Path) -> None:
    result = gr.State(None, time_to_live=600)  # seconds; then the image leaves the memory
    _warnings(events.served)
    with gr.Row(elem_classes="stacked"):
        with gr.Column(scale=2, min_width=300):
            upload = _upload_one(examples_folder)
            prevalence = gr.Slider(
                0.1,  # percent
                80.0,  # percent
                value=20.0,
                step=0.1,
                label="Of 100 people examined, how many have it?",
                elem_id="prevalence",
                visible=events.served.has_predictive_values,
            )
            meaning = gr.Markdown(
                text.meaning(events.served, 0.2),
                elem_id="meaning",
                visible=events.served.has_predictive_values,
            )
        with gr.Column(scale=3, min_width=320):
            # Screen readers announce the card; text.py marks it as a status.
            verdict = gr.HTML(handlers.NO_VERDICT, elem_id="verdict")
            slider, finding, view = _evidence_view(events.served)
    upload.change(
        events.show,
        [upload, *view],
        [result, verdict, finding, slider],
        api_visibility="private",
    )
    display, *sliders = view
    # On release, not while the handle moves: each call draws an image.
    for event in (finding.input, display.change, *(slider.release for slider in sliders)):
        event(
            handlers.slider_images,
            [result, finding, *view],
            slider,
            api_visibility="private",
            show_progress="hidden",
        )
    prevalence.release(
        lambda percent: text.meaning(events.served, percent / 100.0),
        prevalence,
        meaning,
        api_visibility="private",
        show_progress="hidden",
    )
    if events.flag_dir:
        _disagreement(events, result)


def _upload_one(examples_folder: Path) -> gr.File:
    # Adds the upload of one file, and the examples. The content of a file decides, not its name.
    gr.Markdown(f"{radiograph.FORMATS}, of any name.", elem_id="accepted")
    upload = gr.File(label="A frontal chest radiograph", elem_id="upload")
    paths = examples.draw_examples(examples_folder)
    gr.Markdown("Synthetic examples, drawn by a program:", elem_id="examples_title")
    gallery = gr.Gallery(
        [(str(path), path.stem.split("_")[1]) for path in paths],  # synthetic_CLASS_NUMBER
        label="Synthetic examples",
        show_label=False,
        columns=4,
        height=130,
        allow_preview=False,  # A click chooses.
        interactive=False,
        buttons=[],
        elem_id="examples",
    )

    def choose(event: gr.SelectData) -> str:
        return str(paths[event.index])

    gallery.select(choose, None, upload, api_visibility="private", show_progress="hidden")
    return upload


def _evidence_view(
    served: serving.Served,
) -> tuple[gr.ImageSlider, gr.Dropdown, tuple[gr.Radio, *tuple[gr.Slider, ...]]]:
    # Adds the images; returns them, finding, and display, opacity, width and level.
    several = served.model.multi_label
    content = "evidence for the finding below" if several else "evidence for the class named"
    if served.model.opacity_map:
        content = "opacities"
    images = gr.ImageSlider(
        label=f"The radiograph, and the {content} (left, right)",
        format="png",  # JPEG would blur the evidence
        interactive=False,
        elem_id="evidence",
        max_height=520,
    )
    finding = gr.Dropdown(
        served.model.facts["class_names"] if several else [],
        value=None,
        label="Map of",
        visible=several,
        elem_id="finding",
    )
    display = gr.Radio(
        list(handlers.DISPLAYS), value=handlers.WHOLE, label="Show", elem_id="display"
    )
    opacity = gr.Slider(0.0, 1.0, value=0.6, step=0.05, label="Opacity of the map")
    with gr.Row():
        width = gr.Slider(
            1, 255, value=255, step=1, label="Window (grey levels)", min_width=140
        )  # grey levels
        level = gr.Slider(0, 255, value=127, step=1, label="Level", min_width=140)
    return images, finding, (display, opacity, width, level)


def _batch_tab(events: handlers.Handlers) -> None:
    _warnings(events.served)
    gr.Markdown(
        f"{radiograph.FORMATS}, of any name; zips and tars of them, too. At most "
        f"{serving.MAX_FILES} files; one that cannot be read gets a row with the reason."
    )
    upload = gr.File(label="Frontal chest radiographs", file_count="multiple", elem_id="uploads")
    headers = batch.columns(events.served.model)
    table = gr.Dataframe(
        headers=headers,
        column_widths=[_COLUMN_WIDTHS.get(name, 130) for name in headers],
        interactive=False,
        label="Answers (click a heading to sort)",
        elem_id="table",
        wrap=True,
    )
    download = gr.File(label="The table as CSV", interactive=False, elem_id="csv")
    upload.change(events.show_all, upload, [table, download], api_visibility="private")


def _endpoints(events: handlers.Handlers) -> None:
    # Adds the named endpoints for scripts, hidden on the page.
    with gr.Row(visible=False):
        file = gr.File()
        files = gr.File(file_count="multiple")
        output = gr.JSON()
        # An endpoint is the click of a button that nobody sees.
        gr.Button().click(
            events.classify,
            file,
            output,
            api_name="classify",
            api_description="One radiograph → verdict, label, probabilities, reason.",
        )
        gr.Button().click(
            events.classify_batch,
            files,
            output,
            api_name="classify_batch",
            api_description="Files, zips or tars → a row for each.",
        )
        gr.Button().click(
            lambda: serving.describe_model(events.served),
            None,
            output,
            api_name="model",
            api_description="Classes, scores with intervals, controls, warnings.",
        )


def _disagreement(events: handlers.Handlers, result: gr.State) -> None:
    with gr.Accordion("I disagree with this answer", open=False):
        gr.Markdown(
            "The answer and your comment are kept by whoever runs this page; "
            "the image only if you tick it, as pixels without any tags. "
            "Send nothing that names a patient."
        )
        comment = gr.Textbox(label="What do you see?", max_length=2000)  # characters
        with_image = gr.Checkbox(label="Keep the image too")
        consent = gr.Checkbox(label="I may share this, and agree that it is kept")
        button = gr.Button("Send")
        reply = gr.Markdown()
    button.click(
        events.keep,
        [result, comment, with_image, consent],
        reply,
        api_visibility="private",
    )


def _warnings(served: serving.Served) -> None:
    gr.HTML(text.warnings(served), visible=bool(served.warnings))
