import io
import socket
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.predictors.remote.agent.channel import PROTOCOL, Channel, WrongSecretError, greet_as_agent, greet_as_client
from nas.predictors.remote.agent.wire import LENGTHS, MAGIC, LostError, WireError, seal, unseal

KEY, LABEL = b"a key of some length", b"label"
TEXT = st.text('aé\n"\\\0', max_size=4)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=4,
)
HEADERS, BODIES = st.dictionaries(TEXT, JSON, max_size=3), st.binary(max_size=40)


def opened(data, key=KEY, label=LABEL, **limits):
    return unseal(key, label, io.BytesIO(data).read, **limits)


@given(HEADERS, BODIES)
def test_what_was_sealed_is_unsealed(header, body):
    assert opened(seal(KEY, LABEL, header, body)) == (header, body)


@given(HEADERS, BODIES, st.data())
def test_a_message_with_any_bit_changed_is_refused(header, body, data):
    message = bytearray(seal(KEY, LABEL, header, body))
    message[data.draw(st.integers(0, len(message) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(WireError):
        opened(bytes(message))


@given(HEADERS, BODIES, st.data())
def test_a_message_that_ends_early_is_refused_as_lost(header, body, data):
    message = seal(KEY, LABEL, header, body)
    with pytest.raises(LostError, match=r"ended .* bytes early"):
        opened(message[: data.draw(st.integers(0, len(message) - 1))])


def test_another_key_or_label_does_not_open_a_message():
    message = seal(KEY, LABEL, {"a": 1}, b"body")
    for key, label in ((b"another key", LABEL), (KEY, b"another label"), (b"", LABEL)):
        with pytest.raises(WireError, match="another secret"):
            opened(message, key, label)


@pytest.mark.parametrize(("header", "body"), [(1 << 21, 0), (10, 1 << 31), (10, (1 << 64) - 1)])
def test_a_message_that_claims_to_be_too_long_is_refused_before_it_is_read(header, body):
    source = io.BytesIO(MAGIC + LENGTHS.pack(header, body) + b"x" * 100)
    with pytest.raises(WireError, match="is too long"):
        unseal(KEY, LABEL, source.read)
    assert source.tell() == 16
    with pytest.raises(WireError, match="is too long"):
        opened(seal(KEY, LABEL, {}, b"12345"), max_body=4)


def test_a_length_that_is_a_lie_takes_no_memory():
    asked = []

    def read(number):
        asked.append(number)
        return source.read(number)

    source = io.BytesIO(MAGIC + LENGTHS.pack(2, 1 << 30) + b"{}")
    with pytest.raises(LostError):
        unseal(KEY, LABEL, read)
    assert max(asked) <= 1 << 20


@pytest.mark.parametrize("text", [b"[1]", b"no json", b"\xff\xfe", b"[" * 100_000])
def test_a_header_that_is_no_object_is_refused(text):
    import nas.predictors.remote.agent.wire as wire

    prefix = MAGIC + LENGTHS.pack(len(text), 0)
    with pytest.raises(WireError, match="header of a message"):
        opened(prefix + text + wire.mac(KEY, LABEL, prefix, text, b""))


class Tape:
    """A socket that keeps what is sent and plays it back."""

    def __init__(self):
        self.sent, self.source = [], io.BytesIO()

    def sendall(self, data):
        self.sent.append(data)

    def recv(self, number):
        return self.source.read(number)

    def play(self, *messages):
        self.source = io.BytesIO(b"".join(messages))


def test_messages_that_are_repeated_reordered_left_out_or_sent_back_are_refused():
    sender, tape = Channel(Tape(), b"there", b"back"), Tape()
    for number in range(3):
        sender.send({"number": number})
    first, second, third = sender._sock.sent
    for order in ((first, first), (second, first), (first, third)):
        receiver = Channel(tape, b"back", b"there")
        tape.play(*order)
        with pytest.raises(WireError, match="changed, repeated"):
            _ = [receiver.receive() for _ in order]
    mirror = Channel(tape, b"there", b"back")
    tape.play(first)
    with pytest.raises(WireError, match="changed, repeated"):
        mirror.receive()


def meet(agent_secret, client_secret):
    """The results of both sides of a greeting: a channel each, or the error."""
    left, right = socket.socketpair()
    left.settimeout(5)
    right.settimeout(5)
    found = {}

    def greet():
        try:
            found["agent"] = greet_as_agent(left, agent_secret)
        except WireError as error:
            found["agent"] = error
            left.close()

    thread = threading.Thread(target=greet)
    thread.start()
    try:
        found["client"] = greet_as_client(right, client_secret)
    except WireError as error:
        found["client"] = error
        right.close()
    thread.join(10)
    return found["agent"], found["client"], (left, right)


@pytest.mark.parametrize("secret", [b"", b"the same secret on both sides"])
def test_two_sides_with_one_secret_talk(secret):
    agent, client, _ = meet(secret, secret)
    client.send({"question": 1}, b"abc")
    assert agent.receive() == ({"question": 1}, b"abc")
    agent.send({"answer": 2})
    assert client.receive() == ({"answer": 2}, b"")


@pytest.mark.parametrize(
    ("agent_secret", "client_secret", "told"),
    [(b"one secret here", b"another secret", "another secret"), (b"one", b"", "asks for a secret"), (b"", b"one", "knows no")],
)
def test_a_wrong_secret_is_told_in_one_line_and_opens_nothing(agent_secret, client_secret, told):
    agent, client, _ = meet(agent_secret, client_secret)
    assert isinstance(client, WrongSecretError)
    assert told in str(client)
    assert isinstance(agent, WireError)


def test_every_connection_has_keys_of_its_own():
    (agent, client, _), (other, _, _) = meet(b"secret", b"secret"), meet(b"secret", b"secret")
    tape = Tape()
    client._sock = tape
    client.send({"measure": "this"})
    tape.play(*tape.sent)
    other._sock = tape
    with pytest.raises(WireError, match="changed, repeated"):
        other.receive()
    tape.play(*tape.sent)
    agent._sock = tape
    assert agent.receive()[0] == {"measure": "this"}


@pytest.mark.parametrize(
    ("said", "told"),
    [(b"HTTP/1.1 400 Bad Request\r\n", "not JSON"), (b"{}\n", "no nas agent"), (b"x" * 2000, "no greeting"),
     (b'{"nas-agent": 99}\n', "version 99"), (f'{{"nas-agent": {PROTOCOL}, "nonce": 3}}\n'.encode(), "lacks nonce"),
     (b"", "closed in the greeting")],
)  # fmt: skip
def test_what_is_no_agent_is_told_apart(said, told):
    left, right = socket.socketpair()
    right.settimeout(5)
    left.sendall(said)
    left.shutdown(socket.SHUT_WR)
    with pytest.raises(WireError, match=told):
        greet_as_client(right, b"")
