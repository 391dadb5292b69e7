"""Pickles are read and never run: a collection of hostile ones, each refused with what it asked for."""

from __future__ import annotations

import argparse
import collections
import contextlib
import io
import pickle
import struct
import sys
import time

import pytest
import torch

from sigan import checkpoints, pickles, tensors
from sigan.errors import WeightsError

CANARY = "canary"


def read(content: bytes, table: dict | None = None):
    return pickles.load(memoryview(content), table or {}, "it")[0]


class Calls:
    """An object whose pickle calls a function when it is run."""

    def __init__(self, function, *args, extra=()):
        self.reduced = (function, args, *extra)

    def __reduce__(self):
        return self.reduced


def touch(path) -> str:
    return f"open({str(path)!r}, 'w').close()"


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


SYSTEM = b"cposix\nsystem\n"
# name -> (pickle that would create the file CANARY in the working directory, what must be named)
HOSTILE = {
    "reduce": (SYSTEM + b"(S'touch canary'\ntR.", "posix.system"),
    "reduce of eval": (b"cbuiltins\neval\n(S'open(\"canary\",\"w\")'\ntR.", "builtins.eval"),
    "reduce of Python 2's exec": (b"c__builtin__\nexec\n(S'open(\"canary\",\"w\")'\ntR.", "__builtin__.exec"),
    "reduce by protocol 4": (b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x0ctouch canary\x85R.", "posix.system"),
    "names by way of the memo": (b"\x80\x04" + text("sys") + b"q\x010" + text("tem") + b"q\x020" + text("posix")
                                 + b"q\x030h\x03" + text("system") + b"q\x040h\x04\x93" + text("touch canary")
                                 + b"\x85R.", "posix.system"),
    "a global swapped in through the memo": (b"ccollections\nOrderedDict\nq\x000" + SYSTEM + b"q\x000h\x00("
                                             b"S'touch canary'\ntR.", "posix.system"),
    "build with a state of functions": (b"cargparse\nNamespace\n)\x81}S'x'\n" + SYSTEM + b"sb.", "posix.system"),
    "a state setter put in place": (b"cargparse\nNamespace\n)\x81}S'__setstate__'\n" + SYSTEM
                                    + b"sbS'touch canary'\nb.", "posix.system"),
    "instance": (b"(S'touch canary'\niposix\nsystem\n.", "INST posix.system"),
    "object": (b"(" + SYSTEM + b"S'touch canary'\no.", "posix.system"),
    "new object": (SYSTEM + b"(S'touch canary'\nt\x81.", "posix.system"),
    "new object with keywords": (SYSTEM + b"(S'touch canary'\nt}\x92.", "posix.system"),
    "extension code": (b"\x80\x02\x82\x01)R.", "extension code 1"),
    "extension code of two bytes": (b"\x80\x02\x83\x01\x02)R.", "extension code 513"),
    "extension code of four bytes": (b"\x80\x02\x84\x01\x00\x00\x00)R.", "extension code 1"),
    "a path through attributes": (b"\x80\x04\x8c\x05torch\x8c\x13_utils.os.system   \x93.", "torch._utils.os.system"),
    "importing a module": (b"cimportlib\nimport_module\n(S'canary'\ntR.", "importlib.import_module"),
    "getattr": (b"cbuiltins\ngetattr\n(cposix\n_exit\nS'__call__'\ntR.", "builtins.getattr, posix._exit"),
    "code of a function": (b"ctypes\nFunctionType\n(cmarshal\nloads\n(B\x01\x00\x00\x00etRtR.",
                           "types.FunctionType, marshal.loads"),
    "an unpickler inside": (b"cpickle\nloads\n(B\x01\x00\x00\x00.tR.", "pickle.loads"),
    "torch.load inside": (b"ctorch\nload\n(S'canary'\ntR.", "torch.load"),
    "numpy's loader": (b"cnumpy\nload\n(S'canary'\ntR.", "numpy.load"),
    "persistent id": (b"Pcanary\n.", "PERSID"),
    "persistent id from the stack": (b"S'canary'\nQ.", "BINPERSID"),
    "buffers out of band": (b"\x80\x05\x97\x98.", "NEXT_BUFFER, READONLY_BUFFER"),
    "a global named by no text": (b"\x80\x04K\x01K\x02\x93.", "a global that is not named by two strings"),
    "a name that hides in the error": (b"cx\x1b[2J\nsystem\n.", r"x\x1b[2J.system"),
    "refused and then broken": (SYSTEM + b"(S'touch canary'\ntRa.", "posix.system"),
    "a whole class": (b"cmodels.stylegan2\nGenerator\n)\x81}b.", "models.stylegan2.Generator"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_a_pickle_asks_to_run_is_named_and_not_run(name, tmp_path, monkeypatch):
    content, named = HOSTILE[name]
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "weights.pkl"
    path.write_bytes(content)
    modules = set(sys.modules)
    with pytest.raises(WeightsError) as caught:
        checkpoints.read(path)
    assert f"asks to run or build what weights do not need: {named}" in caught.value.message
    assert not (tmp_path / CANARY).exists() and "canary" not in set(sys.modules) - modules


@pytest.mark.parametrize("name", ["reduce", "reduce of eval", "reduce by protocol 4", "names by way of the memo",
                                  "a global swapped in through the memo", "a state setter put in place", "instance",
                                  "object"])
def test_the_collection_is_hostile_indeed(name, tmp_path, monkeypatch):
    """The standard unpickler does run them: a test of refusals means nothing on harmless files."""
    monkeypatch.chdir(tmp_path)
    with contextlib.suppress(Exception):  # what it ran may return nonsense
        pickle.loads(HOSTILE[name][0])
    assert (tmp_path / CANARY).exists()


@pytest.mark.parametrize("protocol", range(1, 6))  # PyTorch itself cannot save tensors in protocol 0
@pytest.mark.parametrize("zipped", [True, False])
def test_a_hostile_object_among_good_tensors(tmp_path, protocol, zipped):
    canary = tmp_path / CANARY
    tree = {"g_ema": {"weight": torch.zeros(3)}, "args": Calls(exec, touch(canary))}
    torch.save(tree, tmp_path / "w.pt", pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError, match="exec"):
        checkpoints.read(tmp_path / "w.pt")
    assert not canary.exists()


def test_state_setters_list_items_and_dict_items_are_not_called(tmp_path):
    canary = tmp_path / CANARY
    for extra in ((None,), ({"a": 1},), (None, iter([1])), (None, None, iter([("a", 1)]))):
        content = pickle.dumps(Calls(eval, touch(canary), extra=extra))
        with pytest.raises(WeightsError, match="builtins.eval"):
            read(content)
    assert not canary.exists()


def test_all_that_is_refused_is_named_at_once():
    with pytest.raises(WeightsError) as caught:
        read(pickle.dumps([print, input, {"deep": (open, print)}]))
    assert caught.value.message.endswith("builtins.print, builtins.input, _io.open") or caught.value.message.endswith(
        "builtins.print, builtins.input, io.open")


def test_an_arm_s_length_of_names_is_cut():
    many = b"".join(f"cmodule{i}\nname\n".encode() for i in range(500))
    with pytest.raises(WeightsError) as caught:
        read(many + b".")
    assert "module19.name and 480 more" in caught.value.message


# ---- plain data

PLAIN = [
    None, True, False, 0, 1, -1, 255, 256, 65535, 65536, 2**31, -(2**31), 2**40, -(2**70), 1.5, float("inf"), -0.0, "",
    "text", "\u00e9\u4e2d\U0001f600", "with\nlines and 'quotes' \\u0041", (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), [],
    [1, [2, [3]]], {}, {"a": {"b": [1, (2,)]}, 3: None}, {1, 2, 3}, frozenset({"a"}), set(),
    collections.OrderedDict([("z", 1), ("a", 2)]), {"n": range(3).__len__()},
]


@pytest.mark.parametrize("protocol", range(6))
def test_plain_data_is_read_as_the_standard_library_reads_it(protocol):
    content = pickle.dumps(PLAIN, protocol=protocol)
    value = read(content, checkpoints.PLAIN)
    assert value == PLAIN and [type(v) for v in value[:7]] == [type(v) for v in PLAIN[:7]]
    assert str(value[16]) == "-0.0"


@pytest.mark.parametrize("protocol", range(6))
def test_bytes_are_views(protocol):
    value = read(pickle.dumps(b"\x00\xffbytes" * 100, protocol=protocol), checkpoints.PLAIN)
    assert isinstance(value, memoryview) and bytes(value) == b"\x00\xffbytes" * 100


def test_the_pure_python_pickler_writes_nothing_else():
    """Its opcodes differ from the C one's: no frames of text, other memo keys."""
    for protocol in range(6):
        buffer = io.BytesIO()
        pickle._Pickler(buffer, protocol).dump(PLAIN)
        assert read(buffer.getvalue(), checkpoints.PLAIN) == PLAIN


def test_one_object_in_two_places_stays_one():
    shared = [1]
    a, b = read(pickle.dumps([shared, shared]))
    assert a is b
    loop: list = []
    loop.append(loop)
    value = read(pickle.dumps(loop))
    assert value[0] is value


@pytest.mark.parametrize("protocol", range(6))
def test_argparse_s_namespace_is_a_record(protocol):
    arguments = argparse.Namespace(size=1024, path="a/b", lr=0.002, flags=[True, None])
    value = read(pickle.dumps(arguments, protocol=protocol), checkpoints.PLAIN)
    assert isinstance(value, pickles.Record) and value.kind == "argparse.Namespace" and value.state == vars(arguments)


# ---- what is broken, and what costs too much

@pytest.mark.parametrize("end", range(0, 200, 7))
def test_a_truncated_pickle_says_so(end):
    content = pickle.dumps({"key": list(range(30)), "text": "long " * 20, "n": 1.5}, protocol=2)
    assert len(content) > 200
    with pytest.raises(WeightsError, match="broken or no pickle: it ends at|broken or no pickle: it ends in"):
        read(content[:end])


@pytest.mark.parametrize(("content", "message"), [
    (b"\x80\x02\xff.", "byte 0xff at 2 is no opcode"),
    (b".", "it takes from an empty stack"),
    (b"t.", "a mark is missing"),
    (b"h\x07.", "memo 7 was never put"),
    (b"K\x01a.", "takes from an empty stack|looks at an empty stack"),
    (b"K\x01K\x02a.", "APPEND at 4: TypeError: items for a int"),
    (b"}(K\x01u.", "SETITEMS at 4: ValueError: a key without a value"),
    (b"}](K\x01e]s.", "SETITEM .*a list is a key"),
    (b"}G\x00\x00\x00\x00\x00\x00\x00\x00Ns.", "a float is a key"),
    (b"}))s.", "a tuple is a key"),
    (b"K\x01)R.", "REDUCE at 3: TypeError: a int is called"),
    (b"Ispam\n.", "INT at 0: ValueError"),
    (b"S'open\n.", "STRING at 0: ValueError: a string without quotes"),
    (b"X\x02\x00\x00\x00\xff\xff.", "BINUNICODE at 0: UnicodeDecodeError"),
])
def test_what_is_broken_is_told_with_its_place(content, message):
    with pytest.raises(WeightsError, match=message):
        read(content)


HUGE = 2**62
COSTLY = {
    "bytes by declared size": b"\x80\x04\x8e" + struct.pack("<Q", HUGE) + b"x.",
    "text by declared size": b"\x80\x04\x8d" + struct.pack("<Q", HUGE) + b"x.",
    "a bytearray by declared size": b"\x80\x05\x96" + struct.pack("<Q", HUGE) + b"x.",
    "a frame by declared size": b"\x80\x04\x95" + struct.pack("<Q", HUGE) + b"N.",
    "old bytes by declared size": b"B\xff\xff\xff\xffx.",
    "a memo index far away": b"Nr\xff\xff\xff\xff0j\xff\xff\xff\xfe.",
    "an integer of a gigabyte": b"\x8b\x00\x00\x00\x40x.",
    "an integer of negative size": b"\x8b\xff\xff\xff\xffx.",
    "a number of a million digits": b"L" + b"9" * 10**6 + b"L\n.",
    "opcodes without end": b"]" * (pickles.MAX_OPCODES + 10) + b".",
    "sets of a set, over and over": b"(" + b"N" * 200_000 + b"lq\x00cbuiltins\nset\nq\x01" + b"h\x01h\x00\x85R" * 50
                                    + b".",
    "bytes of a long text, over and over": text("x" * 10**6) + b"q\x00c_codecs\nencode\nq\x01"
                                           + b"h\x01h\x00U\x06latin1\x86R" * 2000 + b".",
    "calls with a long list of arguments": b"(" + b"N" * 200_000 + b"tq\x00cpathlib\nPath\nq\x01h\x01h\x00R.",
    "an axis for each of a million numbers": b"cnumpy.core.numeric\n_frombuffer\n(C\x00cnumpy\ndtype\n(S'f4'\ntR("
                                             + b"K\x01" * 200_000 + b"tS'C'\ntR.",
    "a name that is a maze": b"]q\x00" + b"".join(b"](" + b"h%c" % i * 10 + b"eq%c" % (i + 1) for i in range(40))
                             + b"q\xffctorch_utils.persistence\n_reconstruct_persistent_obj\n(}(S'class_name'\nh\xff"
                               b"S'state'\nNutR.",
    "a type that is a maze": b"cnumpy\ndtype\n(" + b")" + b"\x85" * 300_000 + b"tR.",
    "keys that collide": b"}(" + b"".join(b"\x8a\x09" + struct.pack("<Q", (2**61 - 1) * (i + 1) % 2**63) + b"\x01N"
                                          for i in range(3)) + b"u.",
}


@pytest.mark.parametrize("name", COSTLY)
def test_what_would_cost_too_much_is_refused_cheaply(name):
    start = time.process_time()
    with pytest.raises(WeightsError):
        read(COSTLY[name], {**checkpoints.PLAIN, **checkpoints.NVIDIA, **tensors.ALLOWED})
    assert time.process_time() - start < 20  # without bounds: hours, or all memory


def test_nesting_a_hundred_thousand_deep_is_no_matter():
    value = read(b"]" * 100_000 + b"a" * 99_999 + b".")
    depth = 0
    while value:
        [value], depth = value, depth + 1
    assert depth == 99_999
    assert read(b")" + b"\x85" * 100_000 + b".")
    record = b"cargparse\nNamespace\nq\x000Nq\x01" + b"0h\x00)\x81}S'x'\nh\x01sbq\x01" * 100_000 + b"."
    assert read(record, checkpoints.PLAIN).kind == "argparse.Namespace"  # and taken down again without a crash


def test_a_billion_laughs_are_told_once():
    """Ten lists, each of ten times the one before: shared, not copied."""
    content = b"]q\x00" + b"".join(b"](" + b"h%c" % i * 10 + b"eq%c" % (i + 1) for i in range(40)) + b"."
    value = read(content)
    assert len(value) == 10 and value[0] is value[9]
