"""Code lists of ISO: currencies with their decimals (4217) and countries (3166-1 alpha-2).

Both are as of a date, and banks meet codes of later ones first: a code that is missing here is a
new release, not a setting, for features and models know the list too.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

# List one of ISO 4217 as it is in force on this day, and BGN, which it lost on it.
CURRENCIES_AS_OF: Final = "2026-01-01"
# ISO 3166-1 as it is on this day; its last change of a code was South Sudan, in 2011.
COUNTRIES_AS_OF: Final = "2026-01-01"

# ISO 4217, circulating currencies and fund codes; metals and test codes are no money. BGN is kept
# for histories before 2026. Decimals as in the standard's list one.
_BY_EXPONENT: Final = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    2: (
        "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BOV BRL BSD BTN BWP BYN "
        "BZD CAD CDF CHE CHF CHW CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP "
        "GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT "
        "LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN "
        "NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE "
        "SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES "
        "WST XAD XCD XCG YER ZAR ZMW ZWG"
    ),
    3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
}

CURRENCY_EXPONENTS: Final[Mapping[str, int]] = MappingProxyType(
    {code: exponent for exponent, codes in _BY_EXPONENT.items() for code in codes.split()}
)

_ALPHA_2: Final = (
    "AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ "
    "BR BS BT BV BW BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM "
    "DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS "
    "GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN "
    "KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ "
    "MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM "
    "PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV "
    "SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI "
    "VN VU WF WS YE YT ZA ZM ZW"
)

# Assigned by users, not by ISO: Kosovo, as the European Commission, SWIFT and CLDR write it.
USER_ASSIGNED: Final = frozenset(("XK",))
COUNTRIES: Final = frozenset(_ALPHA_2.split()) | USER_ASSIGNED

_OTHER_CODES: Final = {
    "UK": "the United Kingdom is GB",
    "EL": "Greece is GR",
    "EU": "the European Union is no country",
    "AN": "the Netherlands Antilles are BQ, CW or SX",
}


def country_fault(code: str) -> str:
    """Return what is wrong with a code that is no country.

    >>> country_fault("UK")
    'country: the United Kingdom is GB'
    """
    return f"country: {_OTHER_CODES.get(code) or _fault('two letters (alpha-2), as DE', code)}"


def currency_fault(code: str) -> str:
    """Return what is wrong with a code that is no currency.

    >>> currency_fault("978")
    'currency: expected three letters, as EUR, found a number'
    """
    return f"currency: {_fault('three letters, as EUR', code)}"


def _fault(expected: str, code: str) -> str:
    if not code:
        found = "nothing"
    elif code.isdigit():
        found = "a number"
    elif code != code.upper():
        found = "small ones"
    else:
        found = "what ISO's list does not have"
    return f"expected {expected}, found {found}"
