"""Which words are addresses of hosts, and in which form two hosts are compared.

A host is compared as DNS sees it: lower case, compatibility forms folded, other scripts in Punycode, so that a letter
that only looks alike makes another host. What is not plainly a name is no host, and so never an allowed one.

Telegram makes a link of bare words only where they end in a top-level domain it knows. Listed here are those that
anybody can register a name under: all of countries, the open generic ones, and some reserved for examples. Domains of
single brands are left out: nobody else can have a name there, and each would be one more ending of ordinary words.
"""

import re
import unicodedata
from typing import Final

_COUNTRIES: Final = """
ac ad ae af ag ai al am ao aq ar as at au aw ax az ba bb bd be bf bg bh bi bj bm bn bo br bs bt bw by bz ca cc cd cf
cg ch ci ck cl cm cn co cr cu cv cw cx cy cz de dj dk dm do dz ec ee eg er es et eu fi fj fk fm fo fr ga gb gd ge gf
gg gh gi gl gm gn gp gq gr gs gt gu gw gy hk hm hn hr ht hu id ie il im in io iq ir is it je jm jo jp ke kg kh ki km
kn kp kr kw ky kz la lb lc li lk lr ls lt lu lv ly ma mc md me mg mh mk ml mm mn mo mp mq mr ms mt mu mv mw mx my mz
na nc ne nf ng ni nl no np nr nu nz om pa pe pf pg ph pk pl pm pn pr ps pt pw py qa re ro rs ru rw sa sb sc sd se sg
sh si sj sk sl sm sn so sr ss st su sv sx sy sz tc td tf tg th tj tk tl tm tn to tr tt tv tw tz ua ug uk us uy uz va
vc ve vg vi vn vu wf ws ye yt za zm zw
"""
_GENERIC: Final = """
com net org edu gov mil int info biz name pro mobi asia tel jobs travel cat coop museum aero post arpa xxx onion ton
academy accountant accountants actor ads adult africa agency airforce amsterdam apartments app archi army art
associates attorney auction audio auto autos baby band bank bar barcelona bargains baseball basketball bayern beauty
beer berlin best bet bible bid bike bingo bio black blackfriday blog blue boats bond boo book boston bot boutique box
broadway broker brussels build builders business buy buzz bzh cab cafe call cam camera camp capetown capital car
caravan cards care career careers cars casa case cash casino catering catholic center ceo cfa cfd channel charity chat
cheap christmas church city claims cleaning click clinic clothing cloud club coach codes coffee college cologne
community company compare computer condos construction consulting contact contractors cooking cool corsica country
coupon coupons courses credit creditcard cricket cruise cruises cymru cyou dad dance data date dating day deal dealer
deals degree delivery democrat dental dentist desi design dev diamonds diet digital direct directory discount dish diy
docs doctor dog domains dot download drive dubai durban earth eat eco education email energy engineer engineering
enterprises equipment esq estate eus events exchange expert exposed express fail faith family fan fans farm fashion
fast feedback film final finance financial fire fish fishing fit fitness flights florist flowers fly foo food football
forex forsale forum foundation free frl fun fund furniture futbol fyi gal gallery game games garden gay gdn gent gift
gifts gives giving glass global gmbh gold golf goo gop graphics gratis green gripe grocery group guide guitars guru
hair hamburg haus health healthcare help here hiphop hiv hockey holdings holiday homes horse hospital host hosting hot
hotels house how ice icu immo immobilien inc industries ink institute insurance insure international investments irish
ist istanbul jetzt jewelry joburg joy juegos kaufen kids kim kitchen kiwi koeln krd kyoto land lat latino law lawyer
lease legal lgbt life lifestyle lighting limited limo link live living llc llp loan loans locker lol london lotto love
ltd ltda luxe luxury madrid maison makeup man management map market marketing markets mba med media meet melbourne
meme memorial men menu miami mini mls moda moe moi mom money monster mortgage moscow moto motorcycles mov movie music
nagoya navy network new news next ngo ninja now nowruz nrw nyc observer okinawa one ong onl online ooo open organic
osaka ovh page paris pars partners parts party pay pet pharmacy phd phone photo photography photos physio pics
pictures pid pin ping pink pizza place plumbing plus poker porn press prime prod productions prof promo properties
property protection pub qpon quebec quest racing radio read realestate realtor realty recipes red rehab reise reisen
reit ren rent rentals repair report republican rest restaurant review reviews rich rio rip rocks rodeo room rsvp rugby
ruhr run ryukyu saarland safe safety sale salon sarl sas save school schule science scot search secure security seek
select services sew sex sexy sharp shia shiksha shoes shop shopping show silk singles site ski skin sky smart smile
soccer social software solar solutions song soy spa space sport spot srl star stockholm storage store stream studio
study style sucks supplies supply support surf surgery swiss sydney systems taipei talk tatar tattoo tax taxi team
tech technology tennis theater theatre tickets tienda tips tires tirol today tokyo tools top total tours town toys
trade trading training trust tube tunes university uno vacations vegas ventures versicherung vet viajes video villas
vin vip vision viva vlaanderen vodka vote voting voto voyage wales wang watch watches weather webcam website wed
wedding wien wiki win wine winners work works world wow wtf xin xyz yachts yoga yokohama you yun zero zip zone zuerich
"""
_OTHER_SCRIPTS: Final = """
ελ ευ бг бел дети ею католик ком мкд мон москва онлайн орг рус рф сайт срб укр қаз հայ გე ישראל קום ابوظبي الاردن
البحرين الجزائر السعودية المغرب امارات ایران بارت بازار بھارت بيتك تونس سودان سورية شبكة عراق عرب عمان فلسطين قطر
كاثوليك كوم مصر مليسيا موريتانيا موقع همراه پاکستان ڀارت कॉम नेट भारत भारतम् भारोत संगठन বাংলা ভারত ভাৰত ਭਾਰਤ ભારત
ଭାରତ இந்தியா இலங்கை சிங்கப்பூர் భారత్ ಭಾರತ ഭാരതം ලංකා คอม ไทย ລາວ みんな クラウド コム ストア セール ファッション
ポイント 世界 中国 中國 中文网 企业 佛山 信息 健康 八卦 公司 公益 台湾 台灣 商城 商店 商标 在线 大拿 天主教 娱乐
家電 广东 慈善 我爱你 手机 招聘 政务 政府 新加坡 新闻 时尚 書籍 机构 澳門 点看 移动 组织机构 网址 网店 网站 网络
购物 通販 集团 食品 餐厅 香港 닷넷 닷컴 한국
"""
_RESERVED: Final = "example test invalid localhost local internal"
_NO_WORDS: Final = frozenset({"com", "net", "org", "info", "biz", "ru", "cn", "xyz"})

_TOP_LEVEL: Final = frozenset(f"{_COUNTRIES}{_GENERIC}{_OTHER_SCRIPTS}{_RESERVED}".split())
_FILES: Final = frozenset({"ai", "cc", "md", "mov", "pl", "ps", "py", "rs", "sh", "so", "tf", "zip"})
"""Endings of files that are top-level domains as well: `setup.py` is a file to people and a link to Telegram."""

_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_FOUR: Final = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}")
_FILE: Final = re.compile(r"[\w-]+(?:\.[\w-]+)*\.([a-z]{2,3})", re.ASCII | re.IGNORECASE)
_MOST_HOST: Final = 253


def host_of(name: str) -> str | None:
    """The host as it is compared, or None for what is no host: percent signs, blanks, empty labels, too long."""
    labels = [_ascii_label(label) for label in unicodedata.normalize("NFKC", name).lower().removesuffix(".").split(".")]
    host = ".".join(label or "" for label in labels)
    return host if all(labels) and len(host) <= _MOST_HOST else None


def ends_in_domain(name: str) -> bool:
    """Whether Telegram may take bare words for an address. ``Done.It`` is none there: a capital begins a sentence."""
    last = name.rstrip("._-").rpartition(".")[2]
    lower = last.lower()
    if last[:1] != lower[:1] and last[1:] == lower[1:] and lower not in _NO_WORDS:
        return False
    return lower in _TOP_LEVEL or lower.startswith("xn--")


def reads_as_words(name: str) -> bool:
    """A name of a file or a number of four parts: people mean no address by it, though Telegram makes a link of it."""
    file = _FILE.fullmatch(name)
    return bool(file and file[1].lower() in _FILES) or is_number(name)


def is_number(name: str) -> bool:
    """An address of four numbers (IPv4), which is a link in Telegram even on its own."""
    return bool(_FOUR.fullmatch(name)) and all(int(part) < 256 for part in name.split("."))


def _ascii_label(label: str) -> str | None:
    if label.isascii():
        return label if _LABEL.fullmatch(label) else None
    if not all(sign.isalnum() or sign == "-" or unicodedata.category(sign)[0] == "M" for sign in label):
        return None
    coded = f"xn--{label.encode('punycode').decode()}"
    return coded if len(coded) <= 63 else None
