"""Prices, percentages, deadlines and refunds in an answer are found where nobody told the model of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.safety.grounding import ungrounded

CLAIMS = [
    ("It costs €49.", ["€49"]),
    ("It costs 49 EUR or 59.90 euros.", ["49 EUR", "59.90 euros"]),
    ("The fee is $1,299.00, or £5 a month.", ["$1,299.00", "£5"]),
    ("Das kostet 1.299,00 €.", ["1.299,00 €"]),
    ("Цена 1 299 ₽, доставка 300 руб., всего 2 тыс. рублей.", ["1 299 ₽", "300 руб", "2 тыс. рублей"]),
    ("价格为¥299，运费12元。", ["¥299", "12元"]),
    ("Cuesta 20 dólares o 1.500 pesos.", ["20 dólares", "1.500 pesos"]),
    ("Between €10-20.", ["€10-20"]),
    ("You get 15% off, or 12,5 % later; 10 percent; 20 процентов; 5 por ciento.", None),
    ("今天打8折，优惠百分之二十。", ["8折", "百分之二十"]),
    ("You can return it within 14 days.", ["within 14 days"]),
    ("A 30-day guarantee, 2 weeks, two years, 24 hours, 3-5 business days, within an hour.", None),
    ("Ship in 30 minutes.", ["in 30 minutes"]),
    ("Возврат в течение 14 дней, ответ за сутки, гарантия два года, 3 рабочих дня.", None),
    ("Plazo de 14 días, 2 semanas, un plazo de 3 días hábiles, en una hora.", None),
    ("14天内可退货，两周，3个工作日，30分钟内，一年保修。", None),
    ("By 2026-03-12, 12 March 2026, March 13, 2026, 14.03.2026, 03/12/2026 or 15 March.", None),
    ("До 12 марта 2026, el 13 de marzo de 2026, 在2026年3月14日，3月15日。", None),
    ("You get a full refund.", ["full refund"]),
    ("We give your money back. Money-back guarantee.", ["money back", "Money-back"]),
    ("Мы оформим полный возврат и вернём вам деньги.", ["полный возврат", "вернём вам деньги"]),
    ("Habrá reembolso completo.", ["reembolso completo"]),
    ("我们会全额退款。", ["全额退款"]),
]
COUNTS = {8: 5, 11: 6, 13: 4, 14: 4, 15: 5, 16: 6, 17: 4}

NO_CLAIMS = [
    "2 + 2 = 4, and 10*20*30 is 6000.",
    "1. Open the menu\n2. Choose 3 items\n3) Press 4 times",
    "Your order 2026-000123 (ORD-49) has 3 parcels; call +49 30 1234567 or 8 800 555 35 35.",
    "Version 3.11.2 runs on 10.0.0.1:8080; error 404; page 12 of 30; 4 GB; 24/7.",
    "Restart the router and wait 5 minutes. You may 12 times. It was in 2026. В 2026 году. 2026年。",
    "I am 100% sure. We are here 24/7, every day and all year, once a week.",
    "Заказ № 1234567, шаг 2, 3 товара. 订单号123456，第2步。 Pedido 1234, paso 2.",
    "We won 3 games. The pound key is #. Refunds are handled by the shop.",
    "",
]

HELD = [
    ("It costs €49 and 49 euros.", "Price: EUR 49.00"),
    ("1.299,00 €", "1,299 EUR"),
    ("$2k", "2,000 dollars"),
    ("Within two weeks.", "Returns: 14 days"),
    ("14 Tage? 14 days, 14天, 14 дней, 14 días", "2-week returns"),
    ("24 hours or one day", "1 day"),
    ("one year", "12 months"),
    ("3-5 business days", "3 business days at best, 5 working days at worst"),
    ("12 March 2026 and 12.03.2026 and 2026年3月12日", "until 2026-03-12"),
    ("03/12/2026", "12 March 2026"),
    ("12 March", "2026-03-12"),
    ("12 марта 2026", "12 March"),
    ("15 % and 15 percent", "discount: 15%"),
    ("百分之十五", "15%"),
    ("full refund, money back", "全额退款"),
    ("¥100", "100元"),
]

NOT_HELD = [
    ("€49", "Price: $49, €490, 49"),
    ("14 days", "14 weeks, 14 business days, 14%, 14 €"),
    ("5-10 days", "5 days"),
    ("13 March 2026", "12 March 2026"),
    ("12 March 2027", "12 March 2026"),
    ("€1.299", "€1.29"),
    ("full refund", "refunds are possible"),
]


@pytest.mark.parametrize(("at", "answer", "claims"), [(at, *case) for at, case in enumerate(CLAIMS)])
def test_a_claim_that_nobody_told_is_found_as_it_is_worded(at: int, answer: str, claims: list[str] | None) -> None:
    """Money, percentages, durations, dates and refunds are claims, in four languages."""
    found = ungrounded(answer, ())
    assert all(claim in answer for claim in found)
    if claims is None:
        assert len(found) == COUNTS[at], found
    else:
        assert [claim.lower() for claim in found if claim] == [claim.lower() for claim in claims]


@pytest.mark.parametrize("answer", NO_CLAIMS)
def test_numbers_of_small_talk_are_no_claims(answer: str) -> None:
    """Sums, steps, orders, telephones, versions and years promise nothing."""
    assert ungrounded(answer, ()) == []


@pytest.mark.parametrize(("answer", "known"), HELD)
def test_a_claim_that_a_known_text_holds_in_other_words_is_grounded(answer: str, known: str) -> None:
    """Values are compared, not their spelling."""
    assert ungrounded(answer, ["Be kind.", f"Our terms: {known}."]) == []


@pytest.mark.parametrize(("answer", "known"), NOT_HELD)
def test_a_claim_with_another_value_or_unit_is_not_grounded(answer: str, known: str) -> None:
    """A price in another currency, or days instead of weeks, is another promise."""
    assert ungrounded(answer, [known]) == [answer]


def test_each_claim_is_named_once() -> None:
    """Whoever reads the list sees what to check, not how often it was said."""
    assert ungrounded("€49! Only €49. Really 49 €.", ["It costs €50."]) == ["€49", "49 €"]


@given(st.text(max_size=300), st.text(max_size=100))
def test_any_text_can_be_checked(answer: str, known: str) -> None:
    """No text raises, and an answer grounds itself."""
    ungrounded(answer, [known])
    assert ungrounded(answer, [answer]) == []


@given(
    st.lists(
        st.sampled_from([*"0123456789", ".", ",", " ", "-", "/", "€", "%", " days", "年", "月", "日", " марта", "to "])
    )
)
def test_any_number_can_be_checked(parts: list[str]) -> None:
    """Numbers that are none, dates that no calendar has: nothing raises, and an answer grounds itself."""
    text = "".join(parts)
    assert ungrounded(text, [text]) == []
