"""What a teaching found and reached, in words: of the report and the result that its child process gives. No Qt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from .course import Course, number
from .exporting import Exported
from .lesson import Lesson, asTarget
from .progress import amount, duration

_WARNING = "⚠ "
_READING = {
    "segments": _("Looking for segments"),
    "images": _("Reading the images"),
    "segmentations": _("Reading the segmentations"),
}
_USES = {"learn": "", "held-out": _("held out"), "both": _("also held out"), "left out": _("left out")}


def ofCases(lesson: Lesson, course: Course, leftOut: Sequence[Exported]) -> dict[str, str]:
    """Shown name → a few words for its row, of the scene's cases."""
    report, wrong = course.report or {}, {each.get("case") for each in course.suspicious}
    found = {each.shown: _WARNING + _("left out") for each in leftOut}
    for case in _ofScene(lesson, report):
        slices = max((target.get("slices", 0) for target in case.get("targets", {}).values()), default=0)
        words = [_("{slices} slices").format(slices=slices), _USES.get(case.get("use"), "")]
        if case.get("use") == "left out":
            words = [_WARNING + _("left out")]
        elif case["case"] in wrong:
            words.append(_WARNING + _("looks wrong"))
        found[lesson.caseName(case["case"])] = ", ".join(filter(None, words))
    return found


def details(lesson: Lesson, course: Course) -> dict[str, str]:
    """Shown name → size, spacing, how it is stored and its intensities, for the tool tip of its row."""
    found = {}
    for case in _ofScene(lesson, course.report or {}):
        if case.get("shape"):
            text = _("{size} voxels of {spacing} mm, stored as {orientation} slices, intensities {low:g} to {high:g}")
            found[lesson.caseName(case["case"])] = text.format(
                size=" × ".join(map(str, case["shape"][::-1])),
                spacing=" × ".join(f"{one:g}" for one in case["spacing_mm"]),
                orientation=case["orientation"],
                low=case["intensities"][0],
                high=case["intensities"][1],
            )
    return found


def _ofScene(lesson: Lesson, report: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Not those of folders, of which one may be called as a volume is."""
    return [case for case in report.get("cases", ()) if case["case"] in lesson.shown]


def inFolders(lesson: Lesson, report: Mapping[str, Any]) -> dict[str, int]:
    """A target as `--targets` takes it → in how many cases of the folders it is labelled; the scene's are not among
    them."""
    files = [case for case in report.get("cases", ()) if case["case"] not in lesson.shown]
    used = [case.get("targets", {}) for case in files if case.get("use") != "left out"]
    found = {}
    for target in report.get("targets", ()):
        states = [targets.get(target["name"], {}).get("state") for targets in used]
        found[_asked(target)] = states.count("labelled")
    return {name: count for name, count in found.items() if count}


def _asked(target: Mapping[str, Any]) -> str:
    """With its value where it has no name in the files."""
    return asTarget(target["name"]) if target.get("value") is None else f"{target['name']}={target['value']}"


def report(lesson: Lesson, found: Mapping[str, Any], leftOut: Sequence[Exported], notices: Sequence[str] = ()) -> str:
    """Rich text: what there is, what is wrong with it, what is proposed, what it would take, and all that was told."""
    lines = [f"<b>{escape(_summary(found))}</b>"]
    lines += [escape(_target(lesson, target)) for target in found.get("targets", ())]
    lines += [_WARNING + escape(f"{each.shown}: {each.problem}") for each in leftOut]
    lines += [_WARNING + escape(_problem(lesson, each)) for each in found.get("problems", ())]
    lines += [_WARNING + escape(text) for text in _unused(lesson, found)]
    if found.get("proposal"):
        lines.append(escape(_proposal(lesson, found["proposal"])))
    if found.get("estimate"):
        lines.append(escape(_estimate(found["estimate"])))
    new = [notice for notice in notices if not any(_isOf(each, notice) for each in found.get("problems", ()))]
    lines += [_WARNING + escape(lesson.inWords(notice)) for notice in new]
    return "<br>".join(lines)


def _summary(found: Mapping[str, Any]) -> str:
    cases = [case for case in found.get("cases", ()) if case.get("use") != "left out"]
    text = _("{cases} cases with a segmentation, {targets} segments to learn")
    return text.format(cases=len(cases), targets=len(found.get("targets", ())))


def _target(lesson: Lesson, target: Mapping[str, Any]) -> str:
    text = _("{name}: in {cases} cases, on {slices} slices").format(
        name=target.get("name"), cases=target.get("cases"), slices=target.get("slices")
    )
    for key, words in (("missing", _("not segmented in {names}")), ("empty", _("empty in {names}"))):
        if target.get(key):
            text += "; " + words.format(names=", ".join(lesson.caseName(name) for name in target[key]))
    return text


def _problem(lesson: Lesson, problem: Mapping[str, Any]) -> str:
    what = lesson.inWords(str(problem.get("what", "")))
    return f"{lesson.caseName(problem['case'])}: {what}" if problem.get("case") else what


def _isOf(problem: Mapping[str, Any], notice: str) -> bool:
    """Whether a notice says once more what the report does, as when a teaching begins."""
    case, what = (str(problem.get(key) or "") for key in ("case", "what"))
    return what != "" and notice.startswith(case) and notice.endswith(what)


def _unused(lesson: Lesson, found: Mapping[str, Any]) -> list[str]:
    """What of the user's folders is not used; where there is no case at all, the child says so itself.

    Where links lead to files elsewhere, nobody knows in which folder these were found: then nothing is said.
    """
    cases = found.get("cases") or ()
    used = [Path(case.get(key) or "").parent for case in cases for key in ("image", "label")]
    left = [Path(path).parent for path in found.get("unlabelled", ())]
    places, private = [Path(folder).resolve() for folder in lesson.folders], lesson.casesFolder.resolve()
    if not cases or any(place not in places and private not in (place, place.parent) for place in (*used, *left)):
        return []
    folders = zip(lesson.folders, places, strict=True)
    return list(filter(None, [_unusedIn(folder, place in used, left.count(place)) for folder, place in folders]))


def _unusedIn(folder: str, isUsed: bool, count: int) -> str:
    """Of a folder, "" where all of it is used. count: images without a segmentation."""
    if count:
        text = _("{folder}: {count} images have no segmentation and are not used; that of scan.nrrd is scan.seg.nrrd")
        return text.format(folder=folder, count=count)
    text = _("{folder}: no image was found in it; it has to hold the files itself: add each folder in it that does")
    return "" if isUsed else text.format(folder=folder)


def _proposal(lesson: Lesson, proposal: Mapping[str, Any]) -> str:
    window = proposal.get("window") or {}
    words = window.get("mode", "")
    if number(window.get("low")) is not None and number(window.get("high")) is not None:
        words += f" {window['low']:g}–{window['high']:g}"
    text = _("Cut into {orientation} slices, intensities {window}").format(
        orientation=proposal.get("orientation"), window=words
    )
    held = ", ".join(lesson.caseName(name) for name in proposal.get("held_out") or ())
    if proposal.get("within"):
        return text + _("; some slices are held out, as no case can be spared: expect optimistic figures")
    return text + (_("; held out: {names}").format(names=held) if held else _("; nothing is held out"))


def _estimate(estimate: Mapping[str, Any]) -> str:
    seconds = (number(estimate.get("encode_seconds")) or 0) + (number(estimate.get("train_seconds")) or 0)
    return _("About {time}, {disk} of disk ({free} are free), {memory} of memory").format(
        time=duration(seconds),
        disk=amount(number(estimate.get("disk_bytes"))),
        free=amount(number(estimate.get("free_bytes"))),
        memory=amount(number(estimate.get("memory_bytes"))),
    )


def stage(course: Course, isWriting: bool, isStopping: bool) -> str:
    """What is being done now, and the time left."""
    if isWriting:
        return _("Writing the cases to a private folder…")
    if isStopping and course.report is None:
        return _("Stopping…")
    if isStopping and not course.isEncoded:
        return _("Stopping before anything is learned: there will be no pack yet, Resume goes on from here…")
    if isStopping and not course.looks:
        return _("Stopping; what is learned by now becomes the pack, if anything is…")
    if isStopping:
        return _("Stopping; the best so far becomes the pack…")
    if course.isPaused:
        return _("Paused.")
    if course.looks:
        text, best = _("Learning"), course.looks[-1].meanDice
        text += "" if best is None else _(", held-out Dice {dice:.2f} now").format(dice=best)
    elif course.encoded[1]:
        done, total = course.encoded
        text = _("Looking at the slices once: {done} of {total} views").format(done=done, total=total)
    elif course.report is None and course.read[1]:
        text = _READING.get(course.reading, _("Reading the cases")) + " " + _("({done} of {total})")
        text = text.format(done=course.read[0], total=course.read[1])
    else:
        text = _("Getting ready: loading the model")
    left = course.secondsLeft
    return text + (_("; about {time} left").format(time=duration(left)) if left is not None else "…")


def result(lesson: Lesson, course: Course) -> str:
    """Rich text: before and after per target, and cases that look wrong."""
    done = course.result or {}
    rows = "".join(_row(entry) for entry in done.get("table", ()))
    titles = (_("Segment"), _("before"), _("after"), _("held-out slices"))
    head = "".join(f'<th align="left">{escape(title)}&nbsp;&nbsp;</th>' for title in titles)
    table = f"<table><tr>{head}</tr>{rows}</table>" if rows else ""
    version = done.get("version")
    title = _("{name}, version {version}").format(name=done.get("name", lesson.name), version=version) if done else ""
    notes = []
    if done.get("within"):
        notes.append(_("Measured on other slices of the volumes that were learned from: expect less on another one."))
    if done.get("learned_held_out"):
        notes.append(_("Measured before the held-out slices were learned from, too."))
    notes += [_WARNING + _suspicious(lesson, each) for each in course.suspicious]
    return (f"<b>{escape(title)}</b>" if title else "") + table + "<br>".join(map(escape, notes))


def _row(entry: Mapping[str, Any]) -> str:
    def figure(value) -> str:
        return "–" if number(value) is None else f"{value:.3f}"

    cells = (entry.get("target"), figure(entry.get("before")), figure(entry.get("after")), entry.get("slices"))
    return "<tr>" + "".join(f"<td>{escape(str(cell))}&nbsp;&nbsp;</td>" for cell in cells) + "</tr>"


def _suspicious(lesson: Lesson, each: Mapping[str, Any]) -> str:
    text = _("{case}, {target}, looks wrong and is not learned from any more: {why}")
    return text.format(case=lesson.caseName(each.get("case", "")), target=each.get("target"), why=each.get("why"))


def news(lesson: Lesson, course: Course) -> str:
    """One sentence for the end."""
    result = course.result or {}
    how = _("Stopped; the best so far is") if result.get("stopped") else _("Done:")
    if result.get("problem"):
        how = _("The held-out slices could not be learned from ({problem}); Resume tries again. What they judged is")
        how = how.format(problem=lesson.inWords(str(result["problem"])))
    text = _("{how} the pack {name}, version {version}. Select it above and press Segment on the next volume.")
    return text.format(how=how, name=lesson.name, version=course.result.get("version"))
