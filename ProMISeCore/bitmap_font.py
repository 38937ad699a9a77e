"""A 5×7 bitmap font for the contact sheet: capitals, digits and some signs, so that no drawing library is needed."""

from __future__ import annotations

import unicodedata

import numpy as np

HEIGHT, WIDTH = 7, 5

# Seven rows from top to bottom, each five bits, as two hexadecimal digits.
_GLYPHS = {
    " ": "00000000000000", "A": "0E11111F111111", "B": "1E11111E11111E", "C": "0E11101010110E",
    "D": "1E11111111111E", "E": "1F10101E10101F", "F": "1F10101E101010", "G": "0E11101711110F",
    "H": "1111111F111111", "I": "0E04040404040E", "J": "0702020202120C", "K": "11121418141211",
    "L": "1010101010101F", "M": "111B1515111111", "N": "11111915131111", "O": "0E11111111110E",
    "P": "1E11111E101010", "Q": "0E11111115120D", "R": "1E11111E141211", "S": "0F10100E01011E",
    "T": "1F040404040404", "U": "1111111111110E", "V": "11111111110A04", "W": "11111115151B11",
    "X": "11110A040A1111", "Y": "11110A04040404", "Z": "1F01020408101F", "0": "0E11131519110E",
    "1": "040C040404040E", "2": "0E11010204081F", "3": "1F02040201110E", "4": "02060A121F0202",
    "5": "1F101E0101110E", "6": "0608101E11110E", "7": "1F010204080808", "8": "0E11110E11110E",
    "9": "0E11110F01020C", ".": "00000000000C0C", ",": "000000000C0408", "-": "0000001F000000",
    "+": "0004041F040400", "/": "00010204081000", "(": "02040808080402", ")": "08040202020408",
    ":": "000C0C000C0C00", "%": "18190204081303", "=": "00001F001F0000", "_": "0000000000001F",
    "#": "0A0A1F0A1F0A0A", "?": "0E110102040004",
}  # fmt: skip


def text_bitmap(text: str, scale: int = 1) -> np.ndarray:
    """One line of text → (7·scale, w) bool. Small letters become capitals, accents are dropped, the rest is '?'."""
    plain = unicodedata.normalize("NFKD", text.replace("ß", "ss")).upper()
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter))
    bitmap = np.zeros((HEIGHT, max(1, len(plain) * (WIDTH + 1))), bool)
    for place, letter in enumerate(plain):
        rows = bytes.fromhex(_GLYPHS.get(letter, _GLYPHS["?"]))
        bits = (np.array(list(rows))[:, None] >> np.arange(WIDTH - 1, -1, -1)) & 1
        bitmap[:, place * (WIDTH + 1) : place * (WIDTH + 1) + WIDTH] = bits
    return bitmap.repeat(scale, axis=0).repeat(scale, axis=1)
