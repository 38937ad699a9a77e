"""How far something is, in words and on the bar."""

from __future__ import annotations

from slicer.i18n import tr as _


def duration(seconds: float) -> str:
    """As people say it: rounded the more the longer it is."""
    if seconds < 60:
        return _("{count} s").format(count=max(1, round(seconds)))
    if seconds < 3600:
        return _("{count} min").format(count=round(seconds / 60))
    return _("{count:.1f} h").format(count=seconds / 3600)


def amount(size: float | None) -> str:
    """Bytes as people read them."""
    if size is None:
        return _("unknown")
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def during(done: int, total: int, secondsLeft: float | None) -> str:
    """While slices are being segmented."""
    if not done:
        return _("Getting ready: loading the model…")
    text = _("{done} of {total} slices").format(done=done, total=total)
    if secondsLeft is None:
        return text
    return _("{slices}, about {time} left").format(slices=text, time=duration(secondsLeft))


def after(done: int, total: int, hint: str) -> str:
    """When a pass has ended. hint: what the session has to say."""
    if done < total:
        text = _("Cancelled. {done} of {total} slices are done and stay; Segment again goes on from there.")
    else:
        text = _("Done. Where the segment is wrong, drag or add control points.")
    return " ".join([text.format(done=done, total=total), *([sentence(hint)] if hint else [])])


def sentence(hint: str) -> str:
    """With a capital and a full stop."""
    return hint[:1].upper() + hint[1:].rstrip(".") + "."


def show(bar, done: int, total: int, busy: bool) -> None:
    """bar: a QProgressBar, there only while a pass is running; it moves without a number until the first slice."""
    bar.visible = busy and done < total
    bar.maximum = total if done else 0
    bar.value = done
