"""Finds what an answer promises and nobody told the model: prices, percentages, deadlines, refunds.

Both sides are read by the same expressions and compared as values, so that "1.299,00 €" is "EUR 1,299" and "two weeks"
are "14 days". A number counts only with its unit beside it: steps, orders, sums and phone numbers are no promises.
Minutes count only as a deadline ("within 30 minutes"), for most of them are instructions ("wait five minutes"). What
the words around a claim say is not understood: known texts that forbid a refund ground the word as well.
"""

import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Final

_Claim = tuple[str, ...]
"""Kind, value, and for dates day, month and year."""

_NUMBER: Final = r"\d{1,3}(?:[.,'’\u00a0\u202f ]\d{3}){1,4}(?:[.,]\d{1,2})?(?!\d)|\d{1,12}(?:[.,]\d{1,4})?(?!\d)"
_WORDS: Final = {
    word: str(value)
    for value, words in {
        1: "one a an один одна одну одного одной un una uno 一",
        2: "two два две двух dos 二 两 兩",
        3: "three три трёх трех tres 三",
        4: "four четыре четырёх четырех cuatro 四",
        5: "five пять пяти cinco 五",
        6: "six шесть шести seis 六",
        7: "seven семь семи siete 七",
        8: "eight восемь восьми ocho 八",
        9: "nine девять девяти nueve 九",
        10: "ten десять десяти diez 十",
        12: "twelve двенадцать двенадцати doce 十二",
        14: "fourteen четырнадцать четырнадцати catorce 十四",
        15: "fifteen пятнадцать пятнадцати quince 十五",
        20: "twenty двадцать двадцати veinte 二十",
        24: "二十四",
        30: "thirty тридцать тридцати treinta 三十",
        60: "sixty шестьдесят шестидесяти sesenta 六十",
        90: "ninety девяносто noventa 九十",
    }.items()
    for word in words.split()
}
_SPELLED: Final = "|".join(
    word if word > "\u2e80" else rf"(?<!\w){word}(?!\w)" for word in sorted(_WORDS, key=len, reverse=True)
)
_INITIALS: Final = "".join(sorted({word[0] for word in _WORDS}))
_TIMES: Final = {
    "thousand": 10**3,
    "тыс": 10**3,
    "mil": 10**3,
    "千": 10**3,
    "k": 10**3,
    "万": 10**4,
    "萬": 10**4,
    "million": 10**6,
    "millones": 10**6,
    "млн": 10**6,
    "миллион": 10**6,
    "亿": 10**8,
}
_SCALE: Final = (
    r"(?:\s?(?P<{0}>thousand|тыс(?:яч\w?)?|million(?:es)?|mil(?!\w)|миллион\w{{0,2}}|млн|k(?!\w)|[千万萬亿])\.?)?"
)

_SIGNS: Final = {
    "EUR": r"€|EUR",
    "USD": r"(?:US|U\.S\.\s?)?\$|USD",
    "GBP": r"£|GBP",
    "CNY": r"[¥￥]|CNY|RMB|JPY",
    "RUB": r"₽|RUB|RUR",
    "INR": r"₹|INR",
    "UAH": r"₴|UAH",
    "KRW": r"₩|KRW",
    "TRY": r"₺|TRY",
    "KZT": r"₸|KZT",
    "PLN": r"zł|PLN",
    "BRL": r"R\$|BRL",
    "AUD": r"A\$|AUD",
    "CAD": r"CA?\$|CAD",
    "other": r"CHF|NZD|HKD|SGD|MXN|ARS|CLP|COP|SEK|NOK|DKK|CZK|HUF|ILS|AED|SAR|THB|IDR|VND",
}
"""Yen and yuan share a sign, so they are one here; a wrong currency is a smaller risk than a price thought invented."""
_NAMES: Final = {
    "EUR": r"euros?|евро|欧元",
    "USD": r"(?:US )?dollars?|bucks|долл(?:ар(?:а|ов|у)?)?|d[oó]lar(?:es)?|美元|美金",
    "GBP": r"pounds?(?: sterling)?|фунт(?:а|ов)?|libras?|英镑",
    "CNY": r"yuan|yen|юан(?:ь|я|ей)|иен(?:а|ы)?|人民币|块钱|块|元|円",
    "RUB": r"rou?bles?|руб(?:л(?:ь|я|ей|ях|ю))?|rublos?|卢布|р(?=\.)",
    "INR": r"rupees?|рупи[йяи]|rupias?",
    "UAH": r"hryvnias?|грн|грив(?:ен|на|ны)",
    "KZT": r"тенге",
    "BRL": r"reais",
    "other": r"francs?|франк(?:а|ов)?|liras?|лир[аы]?|pesos?",
}
_SIGN: Final = "|".join(_SIGNS.values())
_NAME: Final = "|".join((*_SIGNS.values(), *_NAMES.values()))
_CURRENCIES: Final = tuple(
    (currency, re.compile(words, re.IGNORECASE)) for names in (_SIGNS, _NAMES) for currency, words in names.items()
)
_APART: Final = r"(?<![A-Za-zА-яЁё0-9_.,])"
"""No letter or digit right in front, save those of scripts without blanks."""
_TO: Final = r"\s?(?:[-–—~]|to|до|a|至|到)\s?"
_MONEY: Final = re.compile(
    rf"(?<![A-Za-zА-яЁё])(?P<before>{_SIGN})\s?(?P<first>{_NUMBER})(?:{_TO}(?:{_SIGN})?\s?(?P<second>{_NUMBER}))?"
    rf"{_SCALE.format('times')}"
    rf"|{_APART}(?:(?P<low>{_NUMBER}){_TO})?(?P<amount>{_NUMBER}){_SCALE.format('scale')}"
    rf"\s?(?P<behind>{_NAME})(?![a-zа-яё])",
    re.IGNORECASE,
)
_PERCENT: Final = re.compile(
    rf"{_APART}(?:(?P<low>{_NUMBER})\s?%?\s?[-–—~]\s?)?(?P<amount>{_NUMBER})\s?"
    r"(?:[%％٪]|percent|per cent|процент(?:а|ов|у)?|por ciento|(?P<tenths>折))"
    r"|百分之(?P<chinese>\d{1,3}|[一二三四五六七八九十]{1,3})",
    re.IGNORECASE,
)
_UNITS: Final = {
    "workday": r"(?:business|working|work)[ -]days?|рабочи[хйе]\s(?:день|дня|дней)"
    r"|d[ií]as?\s(?:h[aá]bil(?:es)?|laborables?)|个?工作日",
    "hour": r"hours?|hrs?|h|час(?:а|ов|у)?|horas?|(?:个|個)?小[时時]|钟头",
    "day": r"days?|сут(?:ки|ок)|д(?:ень|ня|ней|ню)|дн(?=\.)|d[ií]as?|天|日(?=之?内|以内)",
    "week": r"weeks?|недел(?:я|и|ь|ю|е)|semanas?|个?星期|周|週|个?礼拜",
    "month": r"months?|месяц(?:а|ев|е)?|мес(?=\.)|mes(?:es)?|个月|個月",
    "year": r"years?|год(?:а|у)?|лет|años?|年",
    "minute": r"minutes?|mins?|минут[аыу]?|мин(?=\.)|minutos?|分[钟鐘]",
}
_LASTS: Final = {"hour": ("hours", 1), "day": ("hours", 24), "week": ("hours", 168), "month": ("months", 1)} | {
    "year": ("months", 12),
    "workday": ("workdays", 1),
    "minute": ("minutes", 1),
}
_UNIT: Final = "|".join(rf"(?P<{unit}>{words})" for unit, words in _UNITS.items())
_DURATION: Final = re.compile(
    rf"(?<![A-Za-zА-яЁё])(?=[\dwiulnвзde{_INITIALS}])"  # most places are none where anything below begins
    r"(?P<soon>\b(?:with)?in\s|under\s|less than\s|no more than\s|\bза\s|в течение\s|не более\s"
    r"|en menos de\s|dentro de\s"
    r"|\ben\s)?"
    rf"{_APART}(?<![:/])(?:(?P<low>\d{{1,4}}|{_SPELLED})\s?(?:[-–—~]|to|or|до|или|a|o|至|到)\s?)?"
    rf"(?:(?P<amount>\d{{1,4}}(?:[.,]\d)?|{_SPELLED})(?:\s?-\s?|\s?)|(?<=\bза\s)|(?<=в течение\s))"
    rf"(?:{_UNIT})(?![A-Za-zА-яЁё])(?P<within>\s?(?:之内|以内|内))?",
    re.IGNORECASE,
)
_ONLY_AS_DEADLINE: Final = frozenset({"a", "an", "un", "una", "uno"})
"""An article before a unit is mostly no number: "24 hours a day"."""
_MONTHS: Final = {
    stem: number
    for number, stems in enumerate(
        (
            "jan янв ene", "feb фев", "mar мар", "apr апр abr", "may май мая", "jun июн", "jul июл", "aug авг ago",
            "sep сен", "oct окт", "nov ноя", "dec дек dic",
        ),
        start=1,
    )
    for stem in stems.split()
}  # fmt: skip
_MONTH: Final = (
    r"jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?"
    r"|dec(?:ember)?|январ[яь]|феврал[яь]|марта?|апрел[яь]|ма[яй]|июн[яь]|июл[яь]|августа?|сентябр[яь]|октябр[яь]|ноябр[яь]"
    r"|декабр[яь]|enero|febrero|marzo|abril|mayo|junio|julio|agosto|septiembre|octubre|noviembre|diciembre"
)
_DATE: Final = re.compile(
    r"(?<![A-Za-zА-яЁё0-9_.,/-])(?:"
    r"(?P<y1>(?:19|20)\d\d)[-/.](?P<m1>\d{1,2})[-/.](?P<d1>\d{1,2})"
    r"|(?P<one>\d{1,2})(?P<sign>[./-])(?P<two>\d{1,2})(?P=sign)(?P<year>(?:19|20)\d\d)"
    rf"|(?P<d2>\d{{1,2}})(?:st|nd|rd|th)?\s(?:of\s|de\s)?(?P<m2>{_MONTH})\.?(?!\w)"
    r"(?:,?\s(?:del?\s)?(?P<y2>(?:19|20)\d\d))?"
    rf"|(?P<m3>{_MONTH})\.?\s(?P<d3>\d{{1,2}})(?:st|nd|rd|th)?(?!\w)(?:,?\s(?P<y3>(?:19|20)\d\d))?"
    r"|(?:(?P<y4>(?:19|20)\d\d)\s?年\s?)?(?P<m4>\d{1,2})\s?月\s?(?P<d4>\d{1,2})\s?[日号號]"
    r")(?!\d|[/-]\d)",
    re.IGNORECASE,
)
_REFUND: Final = re.compile(
    r"(?:full|complete|entire|guaranteed)\s(?:refunds?|reimbursement)|money[ -]back"
    r"|refund(?:ed)?\s(?:\w+\s){0,2}in\sfull"
    r"|100\s?%\s(?:refund|money)|full(?:y)?\srefund(?:ed|able)?|refund(?:ed)? the (?:full|entire|whole)"
    r"|полн\w{2,3}\s(?:возврат\w?|возмещени\w)|верн\w{2,4}\s(?:вам\s)?(?:все\s|полностью\s)?деньги"
    r"|возврат\w?\s(?:денег|всей\sсуммы|полной\sстоимости)|деньги\sвернутся"
    r"|(?:reembolso|devoluci[oó]n|reintegro)\s(?:completo|completa|total|íntegro|íntegra|del dinero)"
    r"|(?:devolver|devolveremos|devolvemos)\s(?:\w+\s){0,2}dinero"
    r"|全额退(?:款|还)|全額退款|全款退|退全款|全部退(?:款|还)",
    re.IGNORECASE,
)


def ungrounded(answer: str, known: Iterable[str]) -> list[str]:
    """The claims of ``answer``, as it words them and in its order, that no known text holds. Linear in all texts.

    A range is held where both its ends are, a date that reads in two ways where one is; either side may leave the year
    out.
    """
    claims = list(_claims(answer))
    if not claims:
        return []
    held = {value for text in known for _, values in _claims(text) for value in values}
    undated = {value[:3] for value in held if value[0] == "date"}
    return list(dict.fromkeys(words for words, values in claims if not _is_held(values, held, undated)))


def _is_held(values: frozenset[_Claim], held: set[_Claim], undated: set[_Claim]) -> bool:
    if all(value[0] == "date" for value in values):
        return any(
            value in held or (*value[:3], "") in held or (not value[3] and value[:3] in undated) for value in values
        )
    return values <= held


def _claims(text: str) -> list[tuple[str, frozenset[_Claim]]]:
    """Claims by their place in the text, each with the values it stands for; a date is not read as anything else."""
    dates = [(found.start(), found.end(), _date(found)) for found in _DATE.finditer(text)]
    within = bytearray(len(text))
    for start, end, values in dates:
        if values:
            within[start:end] = b"\x01" * (end - start)
    others = [
        (found.start(), found.end(), read(found))
        for expression, read in _READERS
        for found in expression.finditer(text)
        if not any(within[found.start() : found.end()])
    ]
    return [(text[start:end].strip(), values) for start, end, values in sorted(dates + others, key=_place) if values]


def _place(claim: tuple[int, int, frozenset[_Claim]]) -> int:
    return claim[0]


def _money(found: re.Match[str]) -> frozenset[_Claim]:
    sign = found["before"] or found["behind"]
    currency = next(name for name, words in _CURRENCIES if words.fullmatch(sign + "." * (sign in "рР"), 0, len(sign)))
    times = _times(found["times"] or found["scale"])
    amounts = (found["first"], found["second"], found["low"], found["amount"])
    kind = currency if currency != "other" else sign[:4].upper()
    return frozenset(("money", kind, _plain(_number(amount) * times)) for amount in amounts if amount)


def _percent(found: re.Match[str]) -> frozenset[_Claim]:
    """Wholly sure, wholly free: a hundred is a way of speaking, and a refund of it is found as one."""
    if found["chinese"]:
        amounts = [Decimal(_chinese(found["chinese"]))]
    else:
        amounts = [_number(amount) for amount in (found["low"], found["amount"]) if amount]
    kind = "tenths" if found["tenths"] else "percent"
    return frozenset((kind, _plain(amount)) for amount in amounts) if amounts[-1] != 100 else frozenset()


def _duration(found: re.Match[str]) -> frozenset[_Claim]:
    unit = next(unit for unit in _UNITS if found[unit])
    is_deadline = found["soon"] or found["within"]
    amount = (found["amount"] or "1").lower()
    if not is_deadline and (unit == "minute" or amount in _ONLY_AS_DEADLINE):
        return frozenset()
    amounts = [_count(one.lower()) for one in (found["low"], amount) if one]
    if unit == "year" and amounts[-1] >= 1000:
        return frozenset()  # a year of the calendar
    kind, times = _LASTS[unit]
    return frozenset((kind, _plain(one * times)) for one in amounts)


def _date(found: re.Match[str]) -> frozenset[_Claim]:
    if found["one"]:
        pairs = [(found["one"], found["two"])]
        if found["sign"] != ".":
            pairs.append((found["two"], found["one"]))
        return frozenset(claim for day, month in pairs for claim in _day(day, month, found["year"]))
    form = next(form for form in "1234" if found[f"d{form}"])
    month = found[f"m{form}"]
    if month == "may":
        return frozenset()  # "you may 12 times"
    return frozenset(_day(found[f"d{form}"], str(_MONTHS.get(month[:3].lower(), month)), found[f"y{form}"]))


def _day(day: str, month: str, year: str | None) -> list[_Claim]:
    is_one = 1 <= int(day) <= 31 and 1 <= int(month) <= 12
    return [("date", str(int(day)), str(int(month)), year or "")] if is_one else []


def _refund(_: re.Match[str]) -> frozenset[_Claim]:
    return frozenset({("refund",)})


_READERS: Final = ((_MONEY, _money), (_PERCENT, _percent), (_DURATION, _duration), (_REFUND, _refund))


def _number(written: str) -> Decimal:
    """Of a point and a comma the last is the decimal one; a single one is, unless three digits follow it."""
    digits = re.sub(r"[\s'’]", "", written)
    signs = [sign for sign in digits if sign in ".,"]
    if signs and (len(set(signs)) == 2 or (len(signs) == 1 and len(digits) - digits.index(signs[0]) != 4)):
        whole, _, part = digits.rpartition(signs[-1])
        return Decimal(f"{re.sub('[.,]', '', whole)}.{part}")
    return Decimal(re.sub("[.,]", "", digits))


def _count(written: str) -> Decimal:
    return Decimal(_WORDS[written]) if written in _WORDS else Decimal(written.replace(",", "."))


def _times(written: str | None) -> int:
    return next((times for stem, times in _TIMES.items() if (written or "").lower().startswith(stem)), 1)


def _chinese(written: str) -> str:
    if written in _WORDS or written.isdigit():
        return _WORDS.get(written, written)
    tens, _, ones = written.partition("十")
    return str(10 * int(_WORDS.get(tens, "1")) + int(_WORDS.get(ones, "0")))


def _plain(value: Decimal) -> str:
    """One way to write a value: 49, 49.0 and 49.00 are the same."""
    return format(value.normalize(), "f")
