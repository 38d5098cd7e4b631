"""Merchant category codes in words (ISO 18245): those that an analyst meets most."""

from __future__ import annotations

from typing import Final

_NAMES: Final = {
    "4111": "local transport",
    "4121": "taxis",
    "4511": "airlines",
    "4812": "telephones",
    "4814": "telecom services",
    "4816": "online services",
    "4829": "money transfer",
    "4899": "cable and streaming",
    "4900": "utilities",
    "5045": "computers",
    "5094": "precious stones",
    "5200": "home supply",
    "5311": "department stores",
    "5331": "variety stores",
    "5399": "general merchandise",
    "5411": "grocery stores",
    "5462": "bakeries",
    "5499": "food stores",
    "5541": "service stations",
    "5542": "fuel pumps",
    "5651": "family clothing",
    "5661": "shoe shops",
    "5691": "clothing",
    "5712": "furniture",
    "5732": "electronics",
    "5734": "software shops",
    "5735": "record shops",
    "5812": "restaurants",
    "5813": "bars",
    "5814": "fast food",
    "5815": "digital media",
    "5816": "digital games",
    "5817": "digital applications",
    "5818": "digital goods",
    "5912": "pharmacies",
    "5921": "liquor stores",
    "5941": "sporting goods",
    "5942": "book shops",
    "5944": "jewellery",
    "5945": "toys and games",
    "5947": "gift cards",
    "5964": "catalogue merchants",
    "5967": "direct marketing",
    "5969": "direct marketing",
    "5977": "cosmetics",
    "5995": "pet shops",
    "5999": "specialty retail",
    "6010": "cash at a counter",
    "6011": "cash machine",
    "6012": "financial institution",
    "6051": "crypto and quasi-cash",
    "6211": "securities",
    "6300": "insurance",
    "6538": "money transfer",
    "6540": "stored value",
    "7011": "hotels",
    "7230": "hairdressers",
    "7273": "dating services",
    "7372": "software",
    "7399": "business services",
    "7512": "car rental",
    "7523": "parking",
    "7832": "cinemas",
    "7922": "tickets",
    "7995": "gambling",
    "7997": "clubs and gyms",
    "8011": "doctors",
    "8062": "hospitals",
    "8099": "health services",
    "8220": "universities",
    "8398": "charities",
    "9399": "government services",
}


def mcc_words(mcc: str) -> str:
    """Return a code in words, or an empty string where it is not among them.

    >>> mcc_words("5411"), mcc_words("0000")
    ('grocery stores', '')
    """
    return _NAMES.get(mcc, "")
