"""Card data as people, programs and thieves write them, made at run time."""

from __future__ import annotations

import base64
from collections.abc import Callable

from training.simulator.messages import luhn_digit, pan_of

VISA = pan_of(0)
Form = Callable[[str], str]


def number_of(prefix: str, length: int) -> str:
    """Return a number of a range, with its check digit."""
    body = prefix.ljust(length - 1, "0")
    return body + luhn_digit(body)


def _groups(pan: str) -> list[str]:
    return [pan[start : start + 4] for start in range(0, len(pan), 4)]


def _shifted(first: int) -> Form:
    """Return what writes each digit as the character so far behind one of Unicode's zeros."""
    return lambda pan: "".join(chr(first + int(digit)) for digit in pan)


def _parted(mark: str) -> Form:
    return lambda pan: mark.join(_groups(pan))


def _of_each(form: str) -> Form:
    return lambda pan: "".join(form.format(ord(digit)) for digit in pan)


MARKS = [" ", "-", ".", "/", "_", "__", ":", ",", "x", " X ", "   ", " - ", ", ", "\n", "\t",
         "\u00a0", "\u200b", "\u2013", "|", "+", "#", "'", '"', " / ", "....",
         '", "', "\r\n", "\u3000"]  # fmt: skip

NUMBERS: dict[str, Form] = {
    "plain": str,
    "digit by digit": " ".join,
    "in pairs": lambda pan: " ".join(pan[start : start + 2] for start in range(0, 16, 2)),
    "number of the bank apart": lambda pan: f"{pan[:6]}..{pan[6:]}",
    "in halves": lambda pan: f"{pan[:8]}-{pan[8:]}",
    "behind letters": lambda pan: f"CUST{pan}",
    "between letters": lambda pan: f"a{pan}b",
    "filled with zeros": lambda pan: f"000{pan}",
    "with its expiry": lambda pan: f"{pan}2812",
    "with expiry and value": lambda pan: f"{pan}2812123",
    "full width": _shifted(0xFF10),
    "Arabic": _shifted(0x0660),
    "Persian": _shifted(0x06F0),
    "Devanagari": _shifted(0x0966),
    "Thai": _shifted(0x0E50),
    "mathematical": _shifted(0x1D7CE),
    "superscript": lambda pan: pan.translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")),
    "subscript": _shifted(0x2080),
    "circled": lambda pan: pan.translate(str.maketrans("0123456789", "⓪①②③④⑤⑥⑦⑧⑨")),
    "in black circles": lambda pan: pan.translate(str.maketrans("0123456789", "⓿❶❷❸❹❺❻❼❽❾")),
    "Chinese": lambda pan: pan.translate(str.maketrans("0123456789", "〇一二三四五六七八九")),
    "escaped for JSON": _of_each("\\u{:04x}"),
    "escaped for JSON twice": _of_each("\\\\u{:04x}"),
    "escaped bytes": _of_each("\\x{:02x}"),
    "escaped line ends": lambda pan: "\\n".join(_groups(pan)),
    "escaped tabs": lambda pan: "\\t".join(_groups(pan)),
    "HTML": _of_each("&#{};"),
    "HTML in hexadecimal": _of_each("&#x{:x};"),
    "HTML blanks": lambda pan: "&nbsp;".join(_groups(pan)),
    "percent": _of_each("%{:02x}"),
    "percent twice": _of_each("%25{:02x}"),
    "percent blanks": lambda pan: "%20".join(_groups(pan)),
    "Base64": lambda pan: base64.b64encode(pan.encode()).decode(),
    "Base64 of groups": lambda pan: base64.b64encode(" ".join(_groups(pan)).encode()).decode(),
    "Base64 twice": lambda pan: base64.b64encode(base64.b64encode(pan.encode())).decode(),
    "Base64 in a path": lambda pan: f"v1/{base64.b64encode(pan.encode()).decode()}",
    "Base64 for addresses": lambda pan: base64.urlsafe_b64encode(pan.encode()).decode().strip("="),
    "hexadecimal": lambda pan: pan.encode().hex(),
    "hexadecimal in pairs": lambda pan: pan.encode().hex(" "),
    "EBCDIC in hexadecimal": lambda pan: pan.encode("cp037").hex(),
    **{f"groups by {mark!r}": _parted(mark) for mark in MARKS},
}

SENSITIVE: dict[str, Form] = {
    "track 2": lambda pan: f";{pan}=25121011000012345678?",
    "track 2 without sentinels": lambda pan: f"{pan}=25121011000012345678",
    "track 1": lambda pan: f"%B{pan}^DOE/JOHN^2512101100001234?",
    "track 1 in groups": lambda pan: f"%B{pan[:4]} {pan[4:10]} {pan[10:]}^DOE/JOHN^2512101",
    "field 35": lambda pan: f"{pan}D25121011000012345678",
    "tag 57 in hexadecimal": lambda pan: f"5711{pan}D25121011000012345678F",
    "tag 57 in Base64": lambda pan: base64.b64encode(
        bytes.fromhex(f"5711{pan}D25121011000012345678F")
    ).decode(),
    "track 2 in Base64": lambda pan: base64.b64encode(f";{pan}=25121011000".encode()).decode(),
    "track 2 in hexadecimal": lambda pan: f";{pan}=25121011000".encode().hex(),
    "track 2 in percents": lambda pan: f"%3B{pan}%3D25121011000",
    "track 2 escaped": lambda pan: f"\\u003b{pan}\\u003d25121011000",
    "track 2 in full width": lambda pan: f"\uff1b{pan}\uff1d25121011000",
    "value with its name": lambda pan: f"{pan} cvv 123",
    "PIN with its name": lambda pan: f"{pan} PIN: 1234",
    "value in a form": lambda pan: f"pan={pan}&cvv2=123",
    "value in XML": lambda pan: f"<cvv_code>123</cvv_code>{pan}",
}

SENSITIVE_NAMES = [
    "cvv", "CVV2", "cvv_code", "cardCvv", "cvvNumber", "card_cvv", "cvc2value", "CVC", "icvv",
    "card-verification-value", "cardVerificationCode", "securityCode", "card_security_code", "cid",
    "csc", "cav2", "cvn2", "pin", "pinBlock", "pin_block", "encrypted_pin_block", "PINData",
    "cardPin", "pin_offset", "pvv", "track", "track1", "track_2", "track2Data", "track_2_data",
    "track2_equivalent_data", "trackData", "magStripe", "magnetic_stripe_data", "de35", "DE52",
    "field_45",
]  # fmt: skip
ORDINARY_NAMES = [
    "pin_entry_mode", "pinEntryMode", "pin_verified", "pin_try_count", "pinpad_id", "opinion",
    "shipping", "spin", "pinterest", "tracking_number", "trackingId", "track_and_trace",
    "cvv_result", "cvvMatch", "cvc_present", "cvv2_response_code", "acid", "customer_cid_hash",
    "terminal_id",
    "discount", "stripe_id", "soundtrack", "pinned", "escv",
]  # fmt: skip
