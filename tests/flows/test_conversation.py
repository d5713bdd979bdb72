"""What a customer lives through: answers, bursts, edits, long texts, other content."""

import asyncio
from collections.abc import Callable
from itertools import pairwise

import pytest

from bot import texts
from bot.sandbox import ChatBehaviour
from tests.flows.conftest import QUICK, Service, World, echo, markers, until


async def test_an_answer_comes_and_the_next_request_carries_the_former_turn(world: World) -> None:
    """The model is told the prompt, then what was asked and answered, then the question."""
    customer = world.customer()
    assert await customer.asks("alpha one") == "Answer to: alpha one"
    assert await customer.asks("alpha two") == "Answer to: alpha two"
    messages = world.asked("alpha two")[0].messages
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user"]
    assert [message["content"] for message in messages[1:]] == ["alpha one", "Answer to: alpha one", "alpha two"]


async def test_chats_do_not_see_each_other(world: World) -> None:
    """No word of one chat is in another's request or answer."""
    first, second = world.customer(), world.customer()
    await asyncio.gather(first.asks("bravo secret of one"), second.asks("bravo of two"))
    await second.asks("bravo again of two")
    told = " ".join(message["content"] for message in world.asked("bravo again of two")[0].messages)
    assert "secret of one" not in told


async def test_a_burst_is_answered_together_in_order(world: World) -> None:
    """What comes while an answer runs is one next question; 20 messages cost one request more."""
    customer = world.customer()
    world.slow(0.7)
    customer.writes("charlie begins")
    await world.is_asked("charlie begins")
    lines = [f"charlie m{number}" for number in range(20)]
    for line in lines:
        customer.writes(line)
    await world.all_taken()
    answers = await customer.sees(2)
    requests = world.asked("charlie")
    assert len(requests) == 2
    question = requests[1].messages[-1]
    assert question["role"] == "user"
    assert [line for line in question["content"].splitlines() if line] == lines
    assert markers(answers[1]) == [f"m{number}" for number in range(20)]


async def test_twenty_messages_at_once_cost_three_requests_at_most(world: World) -> None:
    """Wherever the first claim falls, every text is asked once, in order."""
    customer = world.customer()
    world.slow(0.4)
    for number in range(20):
        customer.writes(f"delta m{number}")
    await until(lambda: len(markers(" ".join(customer.texts))) >= 20, "all are answered")
    assert len(world.asked("delta")) <= 3
    assert markers(" ".join(customer.texts)) == [f"m{number}" for number in range(20)]


async def test_an_edit_replaces_a_question_not_yet_asked(world: World) -> None:
    """The model is asked what the customer meant in the end."""
    customer = world.customer()
    world.slow(0.7)
    customer.writes("echo begins")
    await world.is_asked("echo begins")
    waiting = customer.writes("echo wrong words")
    customer.edits(waiting, "echo right words")
    await world.all_taken()
    answers = await customer.sees(2)
    assert answers[1] == "Answer to: echo right words"
    assert world.asked("echo wrong words") == []


async def test_a_later_edit_corrects_the_stored_history(world: World) -> None:
    """The next request shows the corrected question; the answer given stays, and no new one is made."""
    customer = world.customer()
    message = customer.writes("foxtrot my order is 11")
    await customer.sees(1)
    customer.edits(message, "foxtrot my order is 12")
    await world.all_taken()
    await customer.asks("foxtrot which order?")
    told = [part["content"] for part in world.asked("foxtrot which order?")[0].messages[1:]]
    assert told[0] == "foxtrot my order is 12"
    assert "foxtrot my order is 11" not in told
    assert len(customer.texts) == 2


async def test_an_edit_is_in_force_when_it_is_taken_up_with_the_next_question(
    own_world: World, start_service: Callable[..., Service], store_address: str
) -> None:
    """Also where the process that takes them up has not read the conversation before."""
    customer = own_world.customer()
    service = start_service(times=QUICK, REDIS_URL=store_address)
    await service.start()
    message = customer.writes("tango my order is 11")
    await customer.sees(1)
    await service.stop()
    customer.edits(message, "tango my order is 12")
    customer.writes("tango which order?")
    await start_service("run", "--only", "ingress", times=QUICK, REDIS_URL=store_address).start()
    await own_world.all_taken()
    start_service("run", "--only", "worker", times=QUICK, REDIS_URL=store_address).spawn()
    await customer.sees(2)
    told = [part["content"] for part in own_world.asked("tango which order?")[0].messages[1:]]
    assert told[0] == "tango my order is 12"


async def test_an_edit_while_the_answer_is_made_corrects_the_history(world: World) -> None:
    """The answer under way belongs to the old words; from the next request on the new ones are told."""
    customer = world.customer()
    world.slow(0.7)
    message = customer.writes("romeo my size is 41")
    await world.is_asked("romeo my size is 41")
    customer.edits(message, "romeo my size is 42")
    await world.all_taken()
    assert await customer.sees(1) == ["Answer to: romeo my size is 41"]
    world.at_ease()
    await customer.asks("romeo which size?")
    assert world.asked("romeo which size?")[0].messages[1]["content"] == "romeo my size is 42"
    assert len(customer.texts) == 2


async def test_a_slow_chat_holds_no_other_back(world: World) -> None:
    """Chats are worked on in parallel: thirty slow answers take about as long as one."""
    customers = [world.customer() for _ in range(30)]
    world.slow(1.0)
    for number, customer in enumerate(customers):
        customer.writes(f"sierra m{number}")
    requests = await world.is_asked("sierra", 30)
    assert all(request.t_end is None or request.t_end > requests[-1].t for request in requests)
    for number, customer in enumerate(customers):
        assert await customer.sees(1) == [f"Answer to: sierra m{number}"]


async def test_a_part_of_4000_units_waits_for_its_continuation(world: World) -> None:
    """A long paste arrives in parts, which are asked together."""
    customer = world.customer()
    first = "golf " + "x" * 4091
    assert len(first) == 4096
    customer.writes(first)
    await world.all_taken()
    customer.writes("golf the rest")
    await customer.sees(1)
    requests = world.asked("golf")
    assert len(requests) == 1
    assert requests[0].messages[-1]["content"] == f"{first}\n\ngolf the rest"


async def test_only_a_long_part_waits(world: World) -> None:
    """A long part alone is asked after a second; nothing else is held back."""
    customer = world.customer()
    written = asyncio.get_running_loop().time()
    customer.writes("hotel " + "x" * 4000)
    long = (await world.is_asked("hotel"))[0]
    await customer.sees(1)
    assert long.t - written >= 0.9
    delays = []
    for number in range(3):
        written = asyncio.get_running_loop().time()
        await customer.asks(f"india m{number} " + "x" * 3900)
        delays.append(world.asked(f"india m{number}")[0].t - written)
    assert min(delays) < 0.9


async def test_topics_of_a_forum_have_histories_of_their_own(world: World) -> None:
    """An answer comes in its topic and knows nothing of the others."""
    customer, topics = world.forum("One", "Two")
    seen = len(customer.texts)
    for number, topic in enumerate([*topics, topics[0]]):
        customer.writes(f"juliet m{number}", thread_id=topic)
        await until(lambda: len(world.asked("juliet")) > number and len(customer.texts) > seen + number)  # noqa: B023
    answers = [message for message in customer.shown if message.text][seen:]
    assert [message.thread_id for message in answers] == [*topics, topics[0]]
    told = " ".join(message["content"] for message in world.asked("juliet m2")[0].messages)
    assert "juliet m0" in told
    assert "juliet m1" not in told


@pytest.mark.parametrize(
    "content",
    [
        {"sticker": {"file_id": "s", "file_unique_id": "s", "type": "regular", "width": 1, "height": 1,
                     "is_animated": False, "is_video": False}},
        {"voice": {"file_id": "v", "file_unique_id": "v", "duration": 3}},
        {"poll": {"id": "1", "question": "?", "options": [], "total_voter_count": 0, "is_closed": False,
                  "is_anonymous": True, "type": "regular", "allows_multiple_answers": False,
                  "allows_revoting": False, "members_only": False}},
        {"location": {"latitude": 1.0, "longitude": 2.0}},
        {"a_kind_of_content_that_comes_next_year": {"x": 1}},
    ],
    ids=["sticker", "voice", "poll", "location", "unknown"],
)  # fmt: skip
async def test_other_content_gets_a_sentence_in_its_place(world: World, content: dict[str, object]) -> None:
    """Between two questions, its sentence stands between their answers."""
    customer = world.customer()
    world.slow(0.3)
    customer.writes("kilo before")
    customer.writes(None, extra=content)
    customer.writes("kilo after")
    assert await customer.sees(3) == ["Answer to: kilo before", texts.ONLY_TEXT, "Answer to: kilo after"]
    assert texts.ONLY_TEXT not in str(world.asked("kilo after")[-1].messages)


@pytest.mark.parametrize(
    "words", ["says something about it", "\u8aaa\u660e\u66f8\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467 ok"]
)
async def test_a_long_answer_comes_as_several_messages_in_order(world: World, words: str) -> None:
    """None is longer than Telegram takes, nothing is missing, and the history holds the whole."""
    story = " ".join(f"lima m{number} {words}." for number in range(600))
    assert len(story) > 3 * 4096
    world.chat_api.behaviour = ChatBehaviour(answer=lambda _: story, chunk_words=50)
    customer = world.customer()
    customer.writes("tell me all")
    await until(lambda: markers(" ".join(customer.texts))[-1:] == ["m599"], "the last part")
    assert markers(" ".join(customer.texts)) == [f"m{number}" for number in range(600)]
    assert all(len(text.encode("utf-16-le")) // 2 <= 4096 for text in customer.texts)
    world.at_ease()
    await customer.asks("lima next")
    assert world.asked("lima next")[0].messages[2]["content"] == story


async def test_markdown_comes_as_entities(world: World) -> None:
    """The customer sees bold words, not asterisks; the history keeps what the model wrote."""
    said = "This is **bold** and `code`."
    world.chat_api.behaviour = ChatBehaviour(answer=lambda _: said)
    customer = world.customer()
    assert await customer.asks("mike") == "This is bold and code."
    kinds = {entity["type"]: entity for entity in customer.shown[0].entities}
    assert (kinds["bold"]["offset"], kinds["bold"]["length"]) == (8, 4)
    assert "code" in kinds
    await customer.asks("mike again")
    assert world.asked("mike again")[0].messages[2]["content"] == said


async def test_refused_entities_end_in_plain_text(world: World) -> None:
    """Formatting is never the reason why an answer is missing."""
    world.chat_api.behaviour = ChatBehaviour(answer=lambda _: "This is **bold**.")
    customer = world.customer()
    world.telegram.faults.add(
        method="sendMessage", kind="400", count=1, chat_id=customer.chat_id,
        description="Bad Request: can't parse entities: unexpected end of tag",
    )  # fmt: skip
    answer = await customer.asks("november")
    assert answer in {"This is bold.", "This is **bold**."}
    assert customer.shown[0].entities == []


async def test_drafts_grow_and_none_is_left_after_the_answer(world: World) -> None:
    """The answer is seen while it is made, and stands alone at the end."""
    words = " ".join(f"word{number}" for number in range(60))
    world.chat_api.behaviour = ChatBehaviour(answer=lambda _: words, chunk_seconds=0.03)
    customer = world.customer()
    customer.writes("oscar")
    draft = await until(lambda: world.telegram.draft(customer.chat_id), "a draft")
    assert words.startswith(draft)
    assert await customer.sees(1) == [words]
    assert world.telegram.draft(customer.chat_id) is None
    frames = [call for call in world.telegram.calls if call.method == "sendMessageDraft"]
    times = [call.t for call in frames if call.chat_id == customer.chat_id]
    assert all(later - earlier > 0.8 for earlier, later in pairwise(times))


async def test_commands_are_answered_and_never_asked(world: World) -> None:
    """The model learns nothing of /start; a command that nobody knows is told so."""
    customer = world.customer()
    assert await customer.asks("/start") == texts.WELCOME.replace("{processor}", "127.0.0.1")
    assert await customer.asks("/help") == texts.HELP
    assert await customer.asks("/papa") == texts.UNKNOWN_COMMAND
    await customer.asks("papa")
    assert len(world.asked("papa")[0].messages) == 2


async def test_a_full_mailbox_tells_so_once(world: World) -> None:
    """Beyond the cap one plain sentence comes, in its place, and what came before is answered."""
    customer = world.customer()
    world.slow(1.5)
    customer.writes("quebec begins")
    await world.is_asked("quebec begins")
    for number in range(230):
        customer.writes(f"quebec m{number}")
    await world.all_taken()
    world.chat_api.behaviour = ChatBehaviour(answer=echo)
    await until(lambda: texts.TOO_MANY in customer.texts, "the sentence")
    await customer.asks("quebec goes on")
    assert customer.texts.count(texts.TOO_MANY) == 1
    asked = markers("\n".join(request.messages[-1]["content"] for request in world.asked("quebec m")))
    assert asked == [f"m{number}" for number in range(len(asked))]
    assert 190 <= len(asked) <= 200


async def test_drafts_are_formatted_as_the_answer_will_be(world: World) -> None:
    """No raw signs while it grows."""
    customer = world.customer()
    answer = "**Three steps**\n\n1. Open `settings`\n2. Press **Reset**\n3. " + "wait " * 40
    world.chat_api.behaviour = ChatBehaviour(answer=lambda _: answer, chunk_seconds=0.04)
    customer.writes("romeo how")
    await customer.sees(1)
    drafts = [c for c in world.telegram.calls if c.method == "sendMessageDraft" and c.chat_id == customer.chat_id]
    seen = [draft.params["text"] for draft in drafts if draft.params["text"]]
    assert len(seen) >= 2
    assert not any("**" in text or "`" in text for text in seen)
    assert [entity["type"] for entity in drafts[-1].params["entities"]] == ["bold", "code", "bold"]


async def test_rich_messages_are_a_switch(own_world: World, start_service: Callable[..., Service]) -> None:
    """On: an answer that fits is rich, and an ordinary message where Telegram refuses it; a lost one is found again."""
    service = start_service(RICH_MESSAGES="true", times=QUICK)
    await service.start()
    telegram, customer = own_world.telegram, own_world.customer()
    answer = "# Plans\n\n| Plan | Price |\n| --- | --- |\n| A | 3 |"
    own_world.chat_api.behaviour = ChatBehaviour(answer=lambda _: answer)
    assert "Plans" in await customer.asks("sierra one")
    assert "rich_message" in customer.shown[-1].media
    telegram.faults.add(method="sendRichMessage", kind="400", count=1, chat_id=customer.chat_id)
    assert "Plans" in await customer.asks("sierra two")
    assert "rich_message" not in customer.shown[-1].media
    telegram.faults.add(method="sendRichMessage", kind="accept_then_cut", count=1, chat_id=customer.chat_id)
    await customer.asks("sierra three")
    await customer.asks("sierra four")
    assert len(telegram.messages(customer.chat_id, deleted=True)) == 8
