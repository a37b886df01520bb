"""Theme, style sheet and paste script of the page."""

import gradio as gr

THEME = gr.themes.Base(
    primary_hue="blue",
    neutral_hue="slate",
    # No fonts from outside: the page makes no request to other servers.
    font=["system-ui", "sans-serif"],
    font_mono=["ui-monospace", "monospace"],
).set(
    # Gradio's own values miss the contrast of WCAG AA.
    body_text_color_subdued="*neutral_600",
    body_text_color_subdued_dark="*neutral_300",
)

# On a phone the two columns become one: upload, verdict, evidence, then the rest.
CSS = """
.gradio-container { max-width: min(72rem, 100vw) !important; margin: 0 auto !important; }
.gradio-container .main, .gradio-container .main > .wrap, .gradio-container main {
  min-width: 0 !important; width: 100%; max-width: 100vw !important; }
.warning { background: #fff4e0; color: #3d2800; border-left: 5px solid #b45f06;
  padding: .6rem .9rem; margin: .3rem 0; font-weight: 600; }
.gradio-container .column, .gradio-container .tabitem, #table {
  min-width: 0 !important; max-width: 100%; }
#table { overflow-x: auto; }
#meaning th, #meaning td { word-break: normal; overflow-wrap: normal; padding: .3rem .5rem; }
@media (max-width: 700px) {
  .stacked { flex-direction: column !important; flex-wrap: nowrap !important; }
  .stacked > .column { display: contents !important; }
  .stacked > .column > * { width: 100% !important; flex: none !important; order: 4; }
  .stacked > .column > :is(#accepted, #upload) { order: 1; }
  .stacked > .column > #verdict { order: 2; }
  .stacked > .column > #evidence, .stacked > .column > .form:has(#finding) { order: 3; }
}
#examples .grid-container { grid-template-columns: repeat(4, minmax(0, 1fr)); }
body:not(.dark) button[role=tab][aria-selected=true] { color: #1d4ed8 !important; }
.card { border: 1px solid #94a3b8; border-left-width: 6px; border-radius: 6px;
  padding: .6rem 1rem; }
.card h3 { margin: .1rem 0 .4rem; font-size: 1.3rem; }
.card.answered { border-left-color: #0072b2; }
.card.unsure { border-left-color: #b45f06; }
.card.refused { border-left-color: #64748b; }
.card .row { display: grid; grid-template-columns: minmax(6rem, 1fr) 3fr 4rem; gap: .6rem;
  align-items: center; margin: .25rem 0; }
.card .track { background: #cbd5e1; height: .8rem; border-radius: 4px; position: relative; }
.card .mark { position: absolute; top: -.2rem; width: 2px; height: 1.2rem; background: #b45f06; }
.card .fill { background: #0072b2; height: .8rem; border-radius: 4px; }
"""

# A pasted image goes to the visible upload, as a dropped one does.
PASTE = """() => document.addEventListener("paste", event => {
  const files = [...(event.clipboardData?.files ?? [])];
  const uploads = "#upload input[type=file], #uploads input[type=file]";
  const inputs = [...document.querySelectorAll(uploads)];
  const input = inputs.find(one => one.parentElement.offsetParent !== null);
  if (!files.length || !input) return;
  const carried = new DataTransfer();
  (input.multiple ? files : files.slice(0, 1)).forEach(file => carried.items.add(file));
  input.files = carried.files;
  input.dispatchEvent(new Event("change", {bubbles: true}));
  event.preventDefault();
})"""
