"""The page: panel on the left, four views, the strip of slices below. Only layout; what is done is in app.py."""

from __future__ import annotations

from pathlib import Path

from trame.ui.vuetify3 import VAppLayout
from trame.widgets import html, rca
from trame.widgets import vuetify3 as v3

_WEB = Path(__file__).with_name("web")
_COLOURS = {"Red": "#f34a33", "Green": "#6eb04b", "Yellow": "#edd54c", "3D": "#8888cc"}  # Slicer's
_ENDINGS = ".nii,.gz,.nrrd,.mha,.dcm,.zip,.png,.jpg,.jpeg,.mrb,.json"

#: Key, what it does; the first ones click buttons that carry them.
KEYS = (
    ("S", "Segment"),
    ("M", "Move: drag control points, scroll, zoom, pan"),
    ("P", "Place positive control points"),
    ("N", "Place negative control points"),
    ("B", "Draw or change the box"),
    ("X", "Adjust window and level with the left button"),
    ("D", "Delete your last control point on this slice"),
    ("Delete", "Delete the control point under the mouse"),
    ("U", "Undo"),
    ("Shift+U", "Redo"),
    ("L", "Lock the slice"),
    ("Shift+L", "Release the slice"),
    ("G", "Propagate to the neighbours"),
    ("W", "Next worst slice"),
    ("Escape", "Back to Move"),
    ("Arrows", "Previous and next slice of the view under the mouse"),
)
_MOUSE = (
    ("Wheel", "scroll through the slices"),
    ("Right button, drag", "zoom"),
    ("Middle button, or Shift and left button, drag", "pan"),
    ("Left button on a control point, drag", "move it; the slice is solved again when you let go"),
)


def build(app) -> None:
    """Make the page of an App."""
    app.server.enable_module({"serve": {"__promise": str(_WEB)}, "scripts": ["__promise/page.js"],
                              "styles": ["__promise/page.css"]})  # fmt: skip
    with VAppLayout(app.server, theme=("theme", "dark")) as app.ui, html.Div(classes="promise-page"):
        with html.Div(classes="promise-panel", raw_attrs=['role="complementary" aria-label="Tools"']):
            _title()
            _study()
            _models()
            _run()
            _correct()
            _review()
            _segments()
            _files()
        with html.Div(classes="promise-main"):
            with html.Div(classes="promise-views"):
                for name in app.streams:
                    _view(app, name)
            _strip()
            _empty()
        _help()
        html.Input(id="promise-file", type="file", accept=_ENDINGS, style="display:none", aria_label="File to open")


def _do(action: str, *values: str) -> str:
    return f"trigger('do', ['{action}'{''.join(', ' + value for value in values)}])"


def _button(text: str, action: str, tip: str, key: str = "", **more) -> None:
    """A button with a tooltip that also says its key."""
    attributes = [f'title="{tip}{f" (key {key})" if key else ""}"'] + ([f'data-key="{key}"'] if key else [])
    v3.VBtn(text, click=action, size="small", variant=more.pop("variant", "tonal"), raw_attrs=attributes, **more)


def _section(title: str):
    section = html.Div(raw_attrs=[f'role="group" aria-label="{title}"'], classes="promise-section")
    with section:
        html.H2(title)
    return section


def _title() -> None:
    with html.Div(classes="promise-row", style="padding:8px 14px;justify-content:space-between"):
        html.H1("ProMISe", style="font-size:1.05rem;margin:0")
        with html.Div(classes="promise-row"):
            _button("?", "helpShown = true", "Keys and mouse", "?", variant="text")
            _button("{{ theme === 'dark' ? 'Light' : 'Dark' }}", "theme = theme === 'dark' ? 'light' : 'dark'",
                    "Light or dark page", variant="text", id="theme")  # fmt: skip
    html.Div("Research use only, the embedded packs for non-commercial research only. Not for clinical use.",
             style="font-size:.75rem;padding:0 14px 8px")  # fmt: skip


def _study() -> None:
    with _section("Volume"):
        html.Div("{{ volume.name }}", v_if="volume", style="font-weight:600;overflow-wrap:anywhere", id="volume-name")
        html.Div("{{ volume.what }}", v_if="volume", style="font-size:.8rem")
        html.Div("No volume is open.", v_if="!volume", style="font-size:.85rem")
        with html.Div(classes="promise-row mt-2"):
            v3.VBtn("Open a file…", size="small", variant="tonal", id="open", raw_attrs=['data-open="1"',
                    'title="Volume, DICOM in a zip, picture; what was saved before"'])  # fmt: skip
            _button("Example", _do("phantom"), "Open the generated heart phantom", id="example")
        v3.VProgressLinear(v_if="uploading >= 0", model_value=("uploading",), height=6, classes="mt-2")


def _models() -> None:
    with _section("Pack"):
        v3.VSelect(
            model_value=("pack",),
            update_modelValue=_do("pack", "$event"),
            items=("packs",),
            item_title="title",
            item_value="name",
            density="compact",
            hide_details=True,
            variant="outlined",
            id="pack",
            aria_label="Pack: what is segmented",
        )
        html.Div("{{ (packs.find((p) => p.name === pack) || {}).what }}", style="font-size:.8rem", classes="mt-1")
        html.Div("⚠ {{ misfit }}", v_if="misfit", style="font-size:.8rem", classes="mt-1", role="alert")
        with html.Details(classes="mt-1 promise-card"):
            html.Summary("Card: data, quality, terms")
            html.Div(v_html="card")


def _run() -> None:
    with _section("Segment"):
        with html.Div(classes="promise-row"):
            _button("{{ hasSession ? 'Segment again' : 'Segment' }}", _do("segment"),
                    "Segment all slices, the one on screen first", "S", color="primary", variant="flat",
                    disabled=("!volume || busy",), id="segment")  # fmt: skip
            _button("Cancel", _do("cancel"), "Stop; what is done stays", disabled=("!busy",), id="cancel")
        # its place is kept while it is hidden: a button that moves under a click does not get it
        v3.VProgressLinear(style=("{ visibility: busy ? 'visible' : 'hidden' }",), height=6, id="progress",
                           model_value=("100 * progress.done / (progress.total || 1)",),
                           indeterminate=("busy && !progress.done",), classes="mt-2")  # fmt: skip
        html.Div("{{ message.kind === 'error' ? '⚠ ' : '' }}{{ message.text }}", classes="promise-message mt-2",
                 id="message", raw_attrs=['role="status" aria-live="polite"'])  # fmt: skip


def _correct() -> None:
    with _section("Correct"):
        with html.Div(classes="promise-row", v_if="targets.length > 1"):
            v3.VBtn("{{ name }}", v_for="name in targets", key="name", click=_do("target", "name"), size="small",
                    variant=("target === name ? 'flat' : 'outlined'",),
                    color=("target === name ? 'primary' : undefined",), raw_attrs=[':aria-pressed="target === name"'],
                    prepend_icon=("target === name ? 'mdi-check' : undefined",))  # fmt: skip
        with html.Div(classes="promise-row mt-2"):
            for tool, text, tip, key in (
                ("move", "Move", "Drag control points; scroll, zoom, pan", "M"),
                ("positive", "+ Point", "Click where the target is", "P"),
                ("negative", "− Point", "Click where the target is not", "N"),
                ("box", "Box", "Draw the target's box, or drag its handles", "B"),
                ("window", "Window", "Left button changes window and level", "X"),
            ):
                needs = "false" if tool in ("move", "window") else "!hasSession"
                attributes = [f'title="{tip} (key {key})"', f'data-key="{key}"', f":aria-pressed=\"tool === '{tool}'\""]
                v3.VBtn(text, click=_do("tool", f"'{tool}'"), size="small", id=f"tool-{tool}", disabled=(needs,),
                        variant=(f"tool === '{tool}' ? 'flat' : 'outlined'",),
                        color=(f"tool === '{tool}' ? 'primary' : undefined",), raw_attrs=attributes)  # fmt: skip
        with html.Div(classes="promise-row mt-2"):
            _button("Undo", _do("undo"), "Take back the last change of prompts", "U", disabled=("!canUndo",), id="undo")
            _button("Redo", _do("redo"), "Do it again", "Shift+U", disabled=("!canRedo",), id="redo")
            _button("Delete", _do("deleteLast"), "Delete your last control point on this slice", "D",
                    disabled=("!hasSession",), id="delete")  # fmt: skip
        with html.Div(classes="promise-row mt-2"):
            _button("Propagate", _do("propagate", "propagateCount", "propagateWay"),
                    "Take this slice to its neighbours", "G", id="propagate",
                    disabled=("!hasSession || busy",))  # fmt: skip
            html.Input(type="number", min="0", max="999", v_model_number="propagateCount", id="propagate-count",
                       title="Slices to a side; 0: until unsure", style="width:4.2em",
                       aria_label="Slices to a side, 0 until unsure")  # fmt: skip
            with html.Select(v_model_number="propagateWay", aria_label="Direction", id="propagate-way"):  # fmt: skip
                html.Option("both sides", value="0")
                html.Option("next", value="1")
                html.Option("previous", value="-1")
        html.Button(click=_do("tool", "'move'"), raw_attrs=['data-key="Escape" tabindex="-1" aria-hidden="true"'],
                    style="display:none")  # fmt: skip


def _review() -> None:
    with _section("Review"), html.Div(classes="promise-row"):
        _button("Next worst slice", _do("worst"), "Go to the slice that deserves a look most", "W",
                disabled=("!hasSession",), id="worst")  # fmt: skip
        _button("Lock", _do("lock"), "Keep this slice from automatic passes", "L", disabled=("!hasSession",), id="lock")
        _button("Release", _do("release"), "Give this slice back to automatic passes", "Shift+L",
                disabled=("!hasSession",), id="release")  # fmt: skip


def _segments() -> None:
    with _section("Segments"):
        html.Div("None yet.", v_if="!segments.length", style="font-size:.85rem")
        with html.Div(v_for="s in segments", key="s.id", classes="promise-segment mt-1", raw_attrs=["data-segment"]):
            html.Input(type="checkbox", checked=("s.shown",),
                       change=_do("showSegment", "s.id", "$event.target.checked"),
                       raw_attrs=[':aria-label="`Show ${s.name}`" title="Show or hide"'])  # fmt: skip
            html.Input(type="color", value=("s.colour",), change=_do("colour", "s.id", "$event.target.value"),
                       style="width:24px;height:20px", raw_attrs=[':aria-label="`Colour of ${s.name}`"'])  # fmt: skip
            html.Span("{{ s.name }}")
            html.Span("{{ s.ml }}")
            html.Input(type="range", min="0", max="1", step="0.05", value=("s.opacity",),
                       change=_do("opacity", "s.id", "$event.target.value"), title="Opacity of the fill",
                       raw_attrs=[':aria-label="`Opacity of ${s.name}`"'])  # fmt: skip
        _button("{{ shown3D ? 'Hide 3D' : 'Show 3D' }}", _do("show3D", "!shown3D"),
                "Surfaces in the 3D view; they go when a slice changes", classes="mt-2",
                disabled=("!hasSession || busy",), id="show3d")  # fmt: skip


def _files() -> None:
    with _section("Save"):
        with html.Div(classes="promise-row"):
            for name, text, tip in (
                ("scene", "Scene (.mrb)", "Everything: opens in 3D Slicer and here, and goes on"),
                ("segmentation", ".seg.nrrd", "The segments, for 3D Slicer"),
                ("labelmap", "Label map", "One number per target, NIfTI"),
                ("prompts", "Prompts", "Control points and boxes, for 3D Slicer"),
            ):
                off = "!volume" if name == "scene" else "!hasSession"
                attributes = [f'data-save="{name}" title="{tip}"']
                v3.VBtn(text, size="small", variant="tonal", disabled=(off,), raw_attrs=attributes, id=f"save-{name}")
        html.Div("To load one of them back: Open a file…", style="font-size:.75rem", classes="mt-1")


def _view(app, name: str) -> None:
    state, isSlice = f"view_{name}", name != "3D"
    classes = (f"['promise-view', large === '{name}' ? 'large' : large ? 'hidden' : '']",)
    with html.Div(classes=classes, style=f"--side:{_COLOURS[name]}", id=f"view-{name}"):
        with html.Div(classes="promise-head"):
            html.Span(f"{{{{ {state}.title }}}}" if isSlice else "3D")
            if isSlice:
                html.Input(type="range", min=(f"{state}.first",), max=(f"{state}.last",), step=(f"{state}.step",),
                           value=(f"{state}.offset",), input=_do("place", f"'{name}'", "Number($event.target.value)"),
                           raw_attrs=[f':aria-label="`Slice of the ${{{state}.title}} view`"'])  # fmt: skip
                html.Span(
                    f"{{{{ {state}.number }}}} / {{{{ {state}.count }}}}", style="min-width:5.5em;text-align:right"
                )
            else:
                html.Span(style="flex:1")
            html.Button("Fit", click=_do("fit", f"'{name}'"), title="Show all of it")
            with html.Button(click=f"large = large === '{name}' ? '' : '{name}'", title="Large, or back to four views",
                             aria_label="Large, or back to four views"):  # fmt: skip
                v3.VIcon(icon=(f"large === '{name}' ? 'mdi-fullscreen-exit' : 'mdi-fullscreen'",), size="18")
        placing = "['promise-area', ['positive', 'negative', 'box'].includes(tool) ? 'placing' : '']"
        with html.Div(classes=(placing,), raw_attrs=[f'data-view="{name}"' if isSlice else ""]):
            area = rca.RemoteControlledArea(name=name, display="image", send_mouse_move=True, event_throttle_ms=12,
                                            style="position:relative;width:100%;height:100%")  # fmt: skip
            area.add_view_handler(app.streams[name])
            for side in ("left", "right", "top", "bottom") if isSlice else ():
                html.Span(f"{{{{ {state}.{side} }}}}", v_if="volume", classes=f"promise-letter {side}")


def _strip() -> None:
    with html.Div(classes="promise-strip", v_if="strip.length", id="strip"):
        html.Div(
            "{{ target }}: height = confidence, striped = low · U yours · P propagated · L locked · · not done",
            style="font-size:.75rem",
        )
        with (
            html.Div(classes="promise-cells"),
            html.Button(
                v_for="c in strip",
                key="c.n",
                click=_do("go", "c.n"),
                classes=("[c.n === slice ? 'here' : '', c.trust !== null && c.trust < 0.5 ? 'low' : '']",),
                raw_attrs=[':title="c.tip" :aria-label="c.tip"'],
            ),
        ):
            html.I(v_if="c.trust !== null", style=("{ height: Math.max(6, 72 * c.trust) + '%' }",))
            html.B("{{ c.letter }}")


def _empty() -> None:
    with (
        v3.VSheet(v_if="!volume", classes="promise-empty", id="empty"),
        html.Div(style="max-width:34rem"),
    ):
        html.H2("Segment a scan, then correct it by its points", style="font-size:1.4rem")
        html.P("Open a NIfTI, NRRD, MHA, PNG or JPEG file, DICOM files in a zip, or a scene (.mrb) saved before: press"
               " the button, or drop the file here. It stays on the computer that runs promise view.",
               classes="my-4")  # fmt: skip
        with html.Div(classes="promise-row", style="justify-content:center"):
            v3.VBtn("Open a file…", color="primary", raw_attrs=['data-open="1"'])
            v3.VBtn("Try an example", click=_do("phantom"), variant="tonal", id="try",
                    raw_attrs=['title="A generated heart; needs no download"'])  # fmt: skip
            v3.VBtn("Real MRI (downloads 4 MB)", click=_do("sample"), variant="text",
                    raw_attrs=['title="MRHead from Slicer\'s testing data, from github.com"'])  # fmt: skip
        html.P("Then: Segment. Scroll, drag a point that lies wrong or add one, and the slice follows.",
               classes="my-4")  # fmt: skip
        html.P("{{ message.kind === 'error' ? '⚠ ' + message.text : '' }}", raw_attrs=['role="alert"'])


def _help() -> None:
    with v3.VDialog(v_model=("helpShown",), max_width=620, scrollable=True), v3.VCard(title="Keys and mouse"):
        with v3.VCardText(), html.Table(style="width:100%;font-size:.9rem"):
            for key, text in (*KEYS, *_MOUSE):
                with html.Tr():
                    with html.Td(style="padding:2px 12px 2px 0;vertical-align:top"):
                        html.Kbd(key)
                    html.Td(text)
        with v3.VCardActions():
            v3.VBtn("Close", click="helpShown = false")
